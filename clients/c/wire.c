/* One connection to the broker: the system calls, none of which waits. */
#include "clients/c/wire.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "base/fd.h"
#include "proto/message.h"

enum { WIRE_READ_SIZE = 16 << 10 };

int64_t wire_now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_BOOTTIME, &t); /* cannot fail for this clock */
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

int wire_connect(struct wire *w, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t n = strlen(path);

	if (n >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, n);
	_cleanup_(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	while (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		if (errno != EINTR)
			return -errno;
	w->fd = take_fd(&fd);
	return 0;
}

/* What the socket takes of `out`; the descriptor goes with its first byte. */
static ssize_t wire_send_some(const struct wire *w)
{
	union {
		struct cmsghdr header; /* for its alignment */
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { .iov_base = w->out.data, .iov_len = w->out.len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (w->passed_fd >= 0) {
		m.msg_control = control.bytes;
		m.msg_controllen = sizeof(control.bytes);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.header), &w->passed_fd, sizeof(w->passed_fd));
	}
	return sendmsg(w->fd, &m, MSG_NOSIGNAL);
}

int wire_flush(struct wire *w)
{
	while (w->out.len > 0) {
		ssize_t n = wire_send_some(w);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n <= 0)
			continue;
		buf_consume(&w->out, (size_t)n);
		w->passed_fd = -1;
	}
	return 0;
}

int wire_take(struct wire *w, struct message **ret)
{
	size_t n = 0;

	switch (message_walk(w->in.data, w->in.len, &message_reply_limits, &n, NULL)) {
	case MESSAGE_INCOMPLETE:
		w->more = false;
		return -EAGAIN;
	case MESSAGE_TOO_LARGE:
		return -EMSGSIZE;
	case MESSAGE_MALFORMED:
		return -EBADMSG;
	case MESSAGE_COMPLETE:
		break;
	}
	int r = message_read(ret, w->in.data, n);
	if (r >= 0)
		buf_consume(&w->in, n);
	w->more = w->in.len > 0;
	return r;
}

int wire_fill(struct wire *w)
{
	uint8_t *room;
	int r = buf_reserve(&w->in, WIRE_READ_SIZE, &room);

	if (r < 0)
		return -ENOMEM;
	for (;;) {
		ssize_t n = recv(w->fd, room, WIRE_READ_SIZE, 0);

		if (n > 0) {
			w->in.len += (size_t)n;
			w->more = true;
			return 0;
		}
		if (n == 0)
			return -ENODATA;
		if (errno != EINTR)
			return -errno;
	}
}

void wire_close(struct wire *w, bool shared)
{
	/* wakes a thread that polls it */
	if (w->fd >= 0 && !shared)
		(void)shutdown(w->fd, SHUT_RDWR);
	fd_close(&w->fd);
	buf_deinit(&w->in);
	buf_deinit(&w->out);
	w->passed_fd = -1;
	w->more = false;
}
