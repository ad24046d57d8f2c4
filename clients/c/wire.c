/* One connection to the broker. Non-blocking underneath, so that each wait ends at the deadline. */
#include "clients/c/wire.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "base/fd.h"
#include "clients/c/fault.h"
#include "proto/message.h"

enum { WIRE_READ_SIZE = 16 << 10, WIRE_RETRY_MS = 10 };

int64_t wire_now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t); /* cannot fail for this clock */
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void wire_pause(int64_t ms, int64_t deadline_ms)
{
	int64_t left = deadline_ms - wire_now_ms();

	ms = MIN_OF(ms, left);
	if (ms > 0)
		(void)poll(NULL, 0,
			   (int)ms); /* a signal may cut it short: the caller tries again */
}

/* Waits until the socket can be used: 0, or -ETIMEDOUT at the deadline. */
static int wire_wait(const struct wire *w, short events, int64_t deadline_ms)
{
	struct pollfd p = { .fd = w->fd, .events = events };

	for (;;) {
		int64_t left = deadline_ms - wire_now_ms();
		int n = left > 0 ? poll(&p, 1, (int)MIN_OF(left, 1000000)) : 0;

		if (n > 0)
			return 0;
		if (left <= 0)
			return -ETIMEDOUT;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

int wire_connect(struct wire *w, const char *path, int64_t deadline_ms)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t n = strlen(path);

	if (n >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, n);
	_cleanup_(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	while (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		/* EAGAIN: the backlog is full, and there is nothing to poll for */
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		if (wire_now_ms() >= deadline_ms)
			return -ETIMEDOUT;
		wire_pause(WIRE_RETRY_MS, deadline_ms);
	}
	w->fd = take_fd(&fd);
	return 0;
}

static enum keybroker_code wire_failed(const struct wire *w, struct keybroker_error *e, int r)
{
	struct sockaddr_un peer = { 0 };
	socklen_t n = sizeof(peer) - 1;

	(void)getpeername(w->fd, (struct sockaddr *)&peer, &n); /* "" will do for a lost one */
	if (r == -ETIMEDOUT)
		return fault_set(e, KEYBROKER_TIMEOUT, "the broker did not answer in time (%s)",
				 peer.sun_path);
	return fault_set(e, KEYBROKER_LOST, "the connection to the broker was lost: %s",
			 r == 0 ? "it was closed" : strerror(-r));
}

/* What the socket takes of `n` bytes; the descriptor goes with the first of them. */
static ssize_t wire_send_some(const struct wire *w, uint8_t *data, size_t n, int fd)
{
	union {
		struct cmsghdr header; /* for its alignment */
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { .iov_base = data, .iov_len = n };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		m.msg_control = control.bytes;
		m.msg_controllen = sizeof(control.bytes);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	}
	return sendmsg(w->fd, &m, MSG_NOSIGNAL);
}

enum keybroker_code wire_send(struct wire *w, const struct buf *data, int fd, int64_t deadline_ms,
			      struct keybroker_error *e)
{
	for (size_t done = 0; done < data->len;) {
		ssize_t sent =
			wire_send_some(w, data->data + done, data->len - done, done == 0 ? fd : -1);
		int r = 0;

		if (sent >= 0)
			done += (size_t)sent;
		else if (errno == EAGAIN)
			r = wire_wait(w, POLLOUT, deadline_ms);
		else if (errno != EINTR)
			r = -errno;
		if (r < 0)
			return wire_failed(w, e, r);
	}
	return KEYBROKER_OK;
}

/* Reads what there is, at least one byte. */
static enum keybroker_code wire_fill(struct wire *w, int64_t deadline_ms, struct keybroker_error *e)
{
	uint8_t *room;

	if (buf_reserve(&w->in, WIRE_READ_SIZE, &room) < 0)
		return fault_set(e, KEYBROKER_NO_MEMORY, "no memory");
	for (;;) {
		ssize_t n = recv(w->fd, room, WIRE_READ_SIZE, 0);
		int r = 0;

		if (n > 0) {
			w->in.len += (size_t)n;
			return KEYBROKER_OK;
		}
		if (n == 0)
			return wire_failed(w, e, 0);
		if (errno == EAGAIN)
			r = wire_wait(w, POLLIN, deadline_ms);
		else if (errno != EINTR)
			r = -errno;
		if (r < 0)
			return wire_failed(w, e, r);
	}
}

enum keybroker_code wire_next(struct wire *w, int64_t deadline_ms, struct message **ret,
			      struct keybroker_error *e)
{
	enum keybroker_code code = KEYBROKER_OK;
	enum message_walk walk;
	size_t n = 0;

	while ((walk = message_walk(w->in.data, w->in.len, &message_reply_limits, &n, NULL)) ==
	       MESSAGE_INCOMPLETE) {
		code = wire_fill(w, deadline_ms, e);
		if (code != KEYBROKER_OK)
			return code;
	}
	if (walk != MESSAGE_COMPLETE)
		return fault_set(e, KEYBROKER_GARBAGE, "what the server sent is %s",
				 walk == MESSAGE_TOO_LARGE ? "larger than a reply may be"
							   : "not the protocol of a broker");
	int r = message_read(ret, w->in.data, n);
	if (r < 0)
		return fault_set(e, r == -ENOMEM ? KEYBROKER_NO_MEMORY : KEYBROKER_GARBAGE,
				 "the reply cannot be read: %s", strerror(-r));
	buf_consume(&w->in, n);
	return KEYBROKER_OK;
}

enum keybroker_code wire_receive(struct wire *w, uint32_t id, int64_t deadline_ms,
				 struct message **ret, struct keybroker_error *e)
{
	for (;;) {
		_cleanup_(message_freep) struct message *m = NULL;
		enum keybroker_code code = wire_next(w, deadline_ms, &m, e);

		if (code != KEYBROKER_OK)
			return code;
		if (message_type(m) == MESSAGE_NOTIFICATION)
			continue;
		/* no other request is in flight: a connection is left after a time-out */
		if (message_type(m) != MESSAGE_REPLY || message_id(m) != id ||
		    !message_error(m) == !message_result(m))
			return fault_set(e, KEYBROKER_GARBAGE,
					 "what the server sent is not the reply to the request");
		*ret = TAKE(m);
		return KEYBROKER_OK;
	}
}

void wire_close(struct wire *w)
{
	fd_close(&w->fd);
	buf_deinit(&w->in);
}
