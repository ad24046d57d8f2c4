/* The server that a URL names: just enough to tell two of them apart. */
#include "cli/url.h"

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/macros.h"

static const struct {
	const char *prefix;
	unsigned port;
	bool https;
} url_schemes[] = { { "http://", 80, false }, { "https://", 443, true } };

/* Where the host ends: behind the bracket of an IPv6 address, else at the port or the end. */
static const char *url_host_end(const char *host, const char *end)
{
	const char *bracket = *host == '[' ? memchr(host, ']', (size_t)(end - host)) : NULL;
	const char *colon = bracket ? NULL : memchr(host, ':', (size_t)(end - host));

	return bracket ? bracket + 1 : colon ? colon : end;
}

static bool url_port(const char *text, const char *end, unsigned *ret)
{
	unsigned port = 0;

	if (text == end)
		return true;
	if (*text++ != ':')
		return false;
	for (; text < end; text++) {
		if (!isdigit((uint8_t)*text) || port > 65535)
			return false;
		port = port * 10 + (unsigned)(*text - '0');
	}
	if (port > 0)
		*ret = port;
	return port <= 65535;
}

static bool url_host(const char *host, const char *end, struct url_server *ret)
{
	size_t n;

	if (*host == '[' && end[-1] == ']') {
		host++;
		end--;
	}
	n = (size_t)(end - host);
	if (n > 0 && host[n - 1] == '.')
		n--;
	if (n == 0 || n >= sizeof(ret->host))
		return false;
	for (size_t i = 0; i < n; i++) {
		if (!isgraph((uint8_t)host[i]))
			return false;
		ret->host[i] = (char)tolower((uint8_t)host[i]);
	}
	ret->host[n] = '\0';
	return true;
}

bool url_server(const char *url, struct url_server *ret)
{
	for (size_t i = 0; i < ARRAY_SIZE(url_schemes); i++) {
		size_t n = strlen(url_schemes[i].prefix);

		if (strncasecmp(url, url_schemes[i].prefix, n) != 0)
			continue;
		const char *host = url + n, *end = host + strcspn(host, "/?#");
		const char *at = memrchr(host, '@', (size_t)(end - host));
		host = at ? at + 1 : host;
		const char *host_end = url_host_end(host, end);
		ret->port = url_schemes[i].port;
		ret->https = url_schemes[i].https;
		return url_host(host, host_end, ret) && url_port(host_end, end, &ret->port);
	}
	return false;
}

bool url_same_server(const char *a, const char *b)
{
	struct url_server first, second;

	return url_server(a, &first) && url_server(b, &second) && first.port == second.port &&
	       strcmp(first.host, second.host) == 0;
}
