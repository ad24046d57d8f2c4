/* Descriptors and what files they were bound to. Both ends are non-blocking: a stopped instance
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
	char bytes[CMSG_SPACE(sizeof(int) * HANDOVER_MAX)];
};

static bool handover_is_ours(int fd)
{
	struct ucred peer;
	socklen_t n = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 && peer.uid == geteuid();
}

void handover_answer(int fd, const int sockets[], const struct handover_place places[], size_t n)
{
	struct handover_place sent[HANDOVER_MAX] = { 0 };
	int passed[HANDOVER_MAX];
	struct iovec data = { .iov_base = sent };
	union handover_control control = { 0 };
	struct msghdr m = { .msg_iov = &data, .msg_iovlen = 1 };
	struct cmsghdr *header;
	size_t count = 0;

	for (size_t i = 0; i < n; i++)
		if (sockets[i] >= 0) {
			sent[count] = places[i];
			passed[count++] = sockets[i];
		}
	data.iov_len = sizeof(*sent) * MAX_OF(count, (size_t)HANDOVER_OWN);
	if (sockets[HANDOVER_CLIENT] >= 0 && sockets[HANDOVER_ADMIN] >= 0) {
		m.msg_control = control.bytes;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * count);
		header = CMSG_FIRSTHDR(&m);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int) * count);
		memcpy(CMSG_DATA(header), passed, sizeof(int) * count);
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

/* The descriptors of a message; how many. */
static size_t handover_descriptors(struct msghdr *m, int ret[HANDOVER_MAX])
{
	size_t n = 0;

	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		n = MIN_OF(n, (size_t)HANDOVER_MAX); /* no more fit into the buffer */
		memcpy(ret, CMSG_DATA(h), n * sizeof(int));
	}
	return n;
}

/* What was received, and how far it is sorted. */
struct handover_answer {
	int sockets[HANDOVER_MAX];
	struct handover_place places[HANDOVER_MAX];
	size_t n;
};

/* Each goes where its path is; what nobody wants is closed. */
static int handover_sort(struct handover_answer *a, const char *const paths[], size_t n, int ret[],
			 struct handover_place ret_places[])
{
	int found[HANDOVER_MAX];

	for (size_t i = 0; i < HANDOVER_MAX; i++)
		found[i] = -1;
	for (size_t i = 0; i < n; i++) {
		for (size_t j = 0; j < a->n && found[i] < 0; j++)
			if (a->sockets[j] >= 0 && handover_is(a->sockets[j], paths[i])) {
				ret_places[i] = a->places[j];
				found[i] = take_fd(&a->sockets[j]);
			}
	}
	for (size_t j = 0; j < a->n; j++)
		fd_close(&a->sockets[j]);
	if (found[HANDOVER_CLIENT] >= 0 && found[HANDOVER_ADMIN] >= 0) {
		memcpy(ret, found, sizeof(int) * n);
		return 0;
	}
	for (size_t i = 0; i < n; i++)
		fd_close(&found[i]);
	return -EADDRNOTAVAIL; /* another configuration's */
}

int handover_take(int fd, const char *const paths[], size_t n, int ret[],
		  struct handover_place ret_places[])
{
	struct handover_answer a;
	struct iovec data = { .iov_base = a.places, .iov_len = sizeof(a.places) };
	union handover_control control = { 0 };
	struct msghdr m = { .msg_iov = &data,
			    .msg_iovlen = 1,
			    .msg_control = control.bytes,
			    .msg_controllen = sizeof(control.bytes) };
	ssize_t got = recvmsg(fd, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

	if (got <= 0)
		return got < 0 ? -errno : -ECONNRESET;
	a.n = handover_descriptors(&m, a.sockets);
	if (a.n == 0)
		return -ENOENT;
	if ((size_t)got == sizeof(*a.places) * a.n)
		return handover_sort(&a, paths, n, ret, ret_places);
	for (size_t i = 0; i < a.n; i++)
		(void)close(a.sockets[i]);
	return -EBADMSG;
}
