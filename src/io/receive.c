/* There is room for one descriptor, to the byte: with CMSG_SPACE() a second one would fit. Where
 * credentials were expected and don't come, more do. */
#include "io/receive.h"

#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"

/* The first is handed on. */
static void receive_descriptors(const struct cmsghdr *c, int *ret)
{
	size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

	memcpy(ret, CMSG_DATA(c), sizeof(int));
	for (size_t i = 1; i < n; i++) {
		int surplus;

		memcpy(&surplus, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
		fd_close(&surplus);
	}
}

ssize_t receive(int fd, void *data, size_t size, int *ret_fd, pid_t *ret_sender)
{
	union {
		struct cmsghdr header; /* for its alignment */
		char bytes[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = data, .iov_len = size };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control.bytes,
			    .msg_controllen = CMSG_LEN(sizeof(int)) };
	struct ucred sender = { 0 };
	ssize_t n;

	if (ret_sender) /* the kernel puts it first */
		m.msg_controllen += CMSG_SPACE(sizeof(sender));
	n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	*ret_fd = -1;
	for (struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_RIGHTS)
			receive_descriptors(c, ret_fd);
		else if (c->cmsg_type == SCM_CREDENTIALS)
			memcpy(&sender, CMSG_DATA(c), sizeof(sender));
	}
	if (ret_sender)
		*ret_sender = sender.pid;
	return n;
}
