/* There is room for one descriptor, to the byte: with CMSG_SPACE() a second one would fit. */
#include "io/receive.h"

#include <string.h>
#include <sys/socket.h>

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
			memcpy(ret_fd, CMSG_DATA(c), sizeof(int));
		else if (c->cmsg_type == SCM_CREDENTIALS)
			memcpy(&sender, CMSG_DATA(c), sizeof(sender));
	}
	if (ret_sender)
		*ret_sender = sender.pid;
	return n;
}
