/*
 * URLs of upstream and of providers, judged before they get anywhere near a credential. curl would
 * take far more than what passes here.
 */
#include "core/url.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/host.h"

static bool url_is_host(const char *host, bool bracketed)
{
	struct in6_addr v6;

	if (bracketed)
		return inet_pton(AF_INET6, host, &v6) == 1;
	return *host && host[strspn(host, "abcdefghijklmnopqrstuvwxyz0123456789.-_")] == '\0';
}

/* The text behind the host: nothing or ":PORT". */
static bool url_take_port(const char *at, const char *end, struct url *ret)
{
	int port = 0;

	ret->port = ret->https ? 443 : 80;
	if (at == end)
		return true;
	if (*at++ != ':' || at == end || end - at > 5)
		return false;
	for (; at < end; at++) {
		if (!isdigit((unsigned char)*at))
			return false;
		port = port * 10 + (*at - '0');
	}
	ret->port = port;
	return port >= 1 && port <= 65535;
}

/* `at` to `end`: what stands between "//" and the next "/". */
static const char *url_take_authority(const char *at, const char *end, struct url *ret)
{
	bool bracketed = *at == '[';
	const char *stop;
	size_t n;

	if (memchr(at, '@', (size_t)(end - at)))
		return "has a user or password in it";
	at += bracketed;
	stop = memchr(at, bracketed ? ']' : ':', (size_t)(end - at));
	if (!stop && bracketed)
		return "lacks a ]";
	if (!stop)
		stop = end;
	n = (size_t)(stop - at);
	if (n >= sizeof(ret->host))
		return "has too long a host name";
	for (size_t i = 0; i < n; i++)
		ret->host[i] = (char)tolower((unsigned char)at[i]);
	ret->host[n] = '\0';
	if (!url_is_host(ret->host, bracketed))
		return *ret->host ? "has a malformed host" : "names no host";
	return url_take_port(stop + bracketed, end, ret) ? NULL : "has a malformed port";
}

const char *url_parse(const char *text, struct url *ret)
{
	struct url url = { 0 };
	const char *at, *why;

	for (at = text; *at; at++)
		if ((unsigned char)*at <= ' ' || *at == 0x7f || *at == '\\')
			return "has a space or control character in it";
	url.https = strncasecmp(text, "https://", 8) == 0;
	if (!url.https && strncasecmp(text, "http://", 7) != 0)
		return "does not begin with http:// or https://";
	if (strpbrk(text, "?#"))
		return "has a query or fragment";
	at = text + (url.https ? 8 : 7);
	why = url_take_authority(at, at + strcspn(at, "/"), &url);
	if (why)
		return why;
	url.loopback = host_is_loopback(url.host);
	*ret = url;
	return NULL;
}

/* From the first slash behind the authority on. */
static const char *url_path(const char *text)
{
	const char *at = strstr(text, "//") + 2;

	return at + strcspn(at, "/");
}

bool url_is_same(const char *a, const char *b)
{
	struct url one, two;

	return !url_parse(a, &one) && !url_parse(b, &two) && one.https == two.https &&
	       one.port == two.port && strcmp(one.host, two.host) == 0 &&
	       strcmp(url_path(a), url_path(b)) == 0;
}

char *url_trim(const char *text, bool v1)
{
	char *url = xstrdup(text);
	size_t n = strlen(url);

	while (n && url[n - 1] == '/')
		n--;
	if (v1 && n > 3 && memcmp(url + n - 3, "/v1", 3) == 0)
		for (n -= 3; n && url[n - 1] == '/';)
			n--;
	url[n] = '\0';
	return url;
}
