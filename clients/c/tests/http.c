/* One HTTP/1.1 request, plain, follows nothing. */
#include "http.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct url {
	char host[128], port[8], path[512];
};

static int url_read(const char *text, struct url *ret)
{
	(void)snprintf(ret->port, sizeof(ret->port), "80");
	ret->path[0] = '\0';
	if (sscanf(text, "http://%127[^:/]:%7[0-9]%511s", ret->host, ret->port, ret->path) >= 2)
		return 0;
	return sscanf(text, "http://%127[^:/]%511s", ret->host, ret->path) >= 1 ? 0 : -1;
}

static int http_connect(const struct url *u)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	struct addrinfo *found = NULL;
	int fd = -1;

	if (getaddrinfo(u->host, u->port, &hints, &found) != 0)
		return -1;
	for (struct addrinfo *a = found; a && fd < 0; a = a->ai_next) {
		fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
			(void)close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(found);
	return fd;
}

/* The answer's status; its body is read to the end, since the connection closes. */
static int http_status(int fd)
{
	char head[256] = "", rest[4096];
	size_t n = 0;
	ssize_t got;
	int status;

	while (n < sizeof(head) - 1 && (got = recv(fd, head + n, sizeof(head) - 1 - n, 0)) > 0)
		n += (size_t)got;
	while (recv(fd, rest, sizeof(rest), 0) > 0)
		;
	return sscanf(head, "HTTP/1.%*d %d", &status) == 1 ? status : -1;
}

static int http_send(const struct url *u, const char *method, const char *key, const char *body)
{
	char text[4096];
	int fd = http_connect(u), status = -1;

	if (fd < 0)
		return -1;
	int n = snprintf(text, sizeof(text),
			 "%s %s HTTP/1.1\r\nHost: %s:%s\r\nConnection: close\r\n%s%s%s"
			 "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
			 method, u->path[0] ? u->path : "/", u->host, u->port,
			 key ? "Authorization: Bearer " : "", key ? key : "", key ? "\r\n" : "",
			 strlen(body), body);
	if (n > 0 && (size_t)n < sizeof(text) && send(fd, text, (size_t)n, MSG_NOSIGNAL) == n)
		status = http_status(fd);
	explicit_bzero(text, sizeof(text));
	(void)close(fd);
	return status;
}

int http_post_chat(const char *base_url, const char *key, const char *model)
{
	struct url u;
	char body[512];
	size_t n;

	if (url_read(base_url, &u) < 0)
		return -1;
	n = strlen(u.path);
	(void)snprintf(u.path + n, sizeof(u.path) - n, "/chat/completions");
	(void)snprintf(body, sizeof(body),
		       "{\"model\":\"%s\",\"messages\":[{\"role\":\"user\",\"content\":\"ping\"}]}",
		       model);
	return http_send(&u, "POST", key, body);
}

int http_get(const char *url, const char *key)
{
	struct url u;

	return url_read(url, &u) < 0 ? -1 : http_send(&u, "GET", key, "");
}
