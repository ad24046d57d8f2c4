/* There is room for credentials and one descriptor. Where no credentials come, more fit: they are
 * closed. */
#include "io/receive.h"

#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"

static void receive_descriptors(const struct cmsghdr *c, int *ret)
{
	size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

	for (size_t i = 0; i < n; i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
		if (*ret < 0)
			*ret = fd;
		else
			fd_close(&fd);
	}
}

ssize_t receive(int fd, void *data, size_t size, struct received *ret)
{
	union {
		struct cmsghdr header; /* for its alignment */
		char bytes[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = data, .iov_len = size };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control.bytes,
			    .msg_controllen = sizeof(control.bytes) };
	ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct ucred sender = { 0 };

	*ret = (struct received){ .fd = -1 };
	if (n < 0)
		return n;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_RIGHTS)
			receive_descriptors(c, &ret->fd);
		else if (c->cmsg_type == SCM_CREDENTIALS)
			memcpy(&sender, CMSG_DATA(c), sizeof(sender));
	}
	ret->sender = sender.pid;
	return n;
}
