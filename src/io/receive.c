/* There is room for credentials and one descriptor. Where no credentials come, more fit: they are
 * discarded, and what is no pidfd is, too. */
#include "io/receive.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "io/discard.h"
#include "io/process.h"

static void receive_descriptors(const struct cmsghdr *c, int *ret)
{
	size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

	for (size_t i = 0; i < n; i++) {
		pid_t pid;
		int fd;

		memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
		if (*ret < 0 && process_pid_of(fd, &pid) != -EBADF)
			*ret = fd;
		else
			discard(fd);
	}
}

ssize_t receive(int fd, void *data, size_t size, struct received *ret)
{
	union {
		struct cmsghdr header; /* for its alignment */
		char bytes[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = data, .iov_len = size };
	/* where there is no room, the kernel drops what came, and that does not wait for anybody */
	bool room = discard_has_room();
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = room ? control.bytes : NULL,
			    .msg_controllen = room ? sizeof(control.bytes) : 0 };
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
