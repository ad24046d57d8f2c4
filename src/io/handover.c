/* Two descriptors and what files they were bound to. Both ends are non-blocking: a stopped instance
 * keeps nobody waiting. */
#include "io/handover.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"

union handover_control {
	struct cmsghdr header; /* for its alignment */
	char bytes[CMSG_SPACE(sizeof(int) * HANDOVER_N)];
};

static bool handover_is_ours(int fd)
{
	struct ucred peer;
	socklen_t n = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 && peer.uid == geteuid();
}

void handover_answer(int fd, const int sockets[HANDOVER_N],
		     const struct handover_place places[HANDOVER_N])
{
	struct handover_place sent[HANDOVER_N];
	struct iovec data = { .iov_base = sent, .iov_len = sizeof(sent) };
	union handover_control control = { 0 };
	struct msghdr m = { .msg_iov = &data, .msg_iovlen = 1 };
	struct cmsghdr *header;

	memcpy(sent, places, sizeof(sent));
	if (sockets[HANDOVER_CLIENT] >= 0 && sockets[HANDOVER_ADMIN] >= 0) {
		m.msg_control = control.bytes;
		m.msg_controllen = sizeof(control.bytes);
		header = CMSG_FIRSTHDR(&m);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int) * HANDOVER_N);
		memcpy(CMSG_DATA(header), sockets, sizeof(int) * HANDOVER_N);
	}
	if (handover_is_ours(fd))
		(void)sendmsg(fd, &m,
			      MSG_NOSIGNAL | MSG_DONTWAIT); /* who asked and went asks again */
	(void)close(fd);
}

int handover_ask(const char *path)
{
	_cleanup_(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un to = { .sun_family = AF_UNIX };

	if (fd < 0)
		return -errno;
	if (strlen(path) >= sizeof(to.sun_path))
		return -ENAMETOOLONG;
	memcpy(to.sun_path, path, strlen(path));
	if (connect(fd, (const struct sockaddr *)&to, sizeof(to)) < 0)
		return -errno;
	return handover_is_ours(fd) ? take_fd(&fd) : -EPERM;
}

bool handover_is(int fd, const char *path)
{
	struct sockaddr_un name = { 0 };
	socklen_t n = sizeof(name), size = sizeof(int);
	int listens = 0;

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens &&
	       getsockname(fd, (struct sockaddr *)&name, &n) == 0 && name.sun_family == AF_UNIX &&
	       strncmp(name.sun_path, path, sizeof(name.sun_path)) == 0;
}

/* The descriptors of a message; those that are no pair are closed. */
static int handover_descriptors(struct msghdr *m, int ret[HANDOVER_N])
{
	int found[HANDOVER_N];
	size_t n = 0;

	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		n = MIN_OF(n, (size_t)HANDOVER_N); /* no more fit into the buffer */
		memcpy(found, CMSG_DATA(h), n * sizeof(int));
	}
	if (n == HANDOVER_N) {
		memcpy(ret, found, sizeof(found));
		return 0;
	}
	for (size_t i = 0; i < n; i++)
		(void)close(found[i]);
	return n == 0 ? -ENOENT : -EBADMSG;
}

int handover_take(int fd, const char *const paths[HANDOVER_N], int ret[HANDOVER_N],
		  struct handover_place ret_places[HANDOVER_N])
{
	struct iovec data = { .iov_base = ret_places, .iov_len = sizeof(*ret_places) * HANDOVER_N };
	union handover_control control = { 0 };
	struct msghdr m = { .msg_iov = &data,
			    .msg_iovlen = 1,
			    .msg_control = control.bytes,
			    .msg_controllen = sizeof(control.bytes) };
	int sockets[HANDOVER_N];
	ssize_t n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	int r;

	if (n <= 0)
		return n < 0 ? -errno : -ECONNRESET;
	r = handover_descriptors(&m, sockets);
	if (r < 0)
		return r;
	if ((size_t)n != data.iov_len)
		r = -EBADMSG;
	for (size_t i = 0; i < HANDOVER_N; i++)
		if (!handover_is(sockets[i], paths[i]))
			r = -EADDRNOTAVAIL; /* another configuration's */
	if (r == 0)
		memcpy(ret, sockets, sizeof(sockets));
	for (size_t i = 0; i < HANDOVER_N && r < 0; i++)
		(void)close(sockets[i]);
	return r;
}
