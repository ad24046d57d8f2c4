/* For the tests of the server: clients on plain sockets. */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/fd.h"
#include "test_server.h"

#define CLIENT_READ_MAX ((size_t)4 << 20)

struct client {
	int fd;
	struct buf in; /* read, not yet taken as a reply */
	bool ended;
};

static inline struct client client_connect(const struct fixture *f)
{
	struct client c = { .fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) };
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	assert_true(c.fd >= 0);
	(void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", f->path);
	assert_int_equal(connect(c.fd, (const struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(fcntl(c.fd, F_SETFL, O_NONBLOCK), 0);
	return c;
}

static inline void client_close(struct client *c)
{
	fd_close(&c->fd);
	buf_deinit(&c->in);
}

static inline void client_send(const struct client *c, const void *data, size_t n)
{
	assert_int_equal(send(c->fd, data, n, MSG_NOSIGNAL), n);
}

/* `n` requests without params in one write, numbered from `id`. */
static inline void client_requests(const struct client *c, uint32_t id, uint32_t n,
				   const char *method)
{
	_cleanup_(buf_deinit) struct buf b = BUF_INIT(0);

	for (uint32_t i = 0; i < n; i++)
		assert_false(pack_request(&b, id + i, method) || pack_map(&b, 0));
	client_send(c, b.data, b.len);
}

static inline void client_request(const struct client *c, uint32_t id, const char *method)
{
	client_requests(c, id, 1, method);
}

/* Takes what the socket holds; remembers the end of the stream. */
static inline void client_read(struct client *c)
{
	uint8_t *to;
	ssize_t n;

	c->in.max = CLIENT_READ_MAX;
	assert_int_equal(buf_reserve(&c->in, 65536, &to), 0);
	n = recv(c->fd, to, 65536, 0);
	if (n > 0)
		c->in.len += (size_t)n;
	c->ended |= n == 0 || (n < 0 && errno == ECONNRESET);
}

static inline struct message *client_take(struct client *c)
{
	struct message *m = NULL;
	size_t n = 0;
	enum message_walk r;

	client_read(c);
	r = message_walk(c->in.data, c->in.len, &message_reply_limits, &n, NULL);
	if (r == MESSAGE_INCOMPLETE)
		return NULL;
	assert_int_equal(r, MESSAGE_COMPLETE);
	assert_int_equal(message_read(&m, c->in.data, n), 0);
	buf_consume(&c->in, n);
	return m;
}
