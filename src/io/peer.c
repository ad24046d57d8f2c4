/*
 * Who is at the other end, as the kernel says it. Everything that is read from /proc by number is
 * believed only if the pidfd shows the process alive afterwards. Decides nothing.
 */
#include "io/peer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "io/process.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5; the headers of Debian 12 are older */
#endif

/* A peer in more groups than fit: the first ones count, the others can match no rule. */
static int peer_read_many_groups(int fd, socklen_t size, struct peer *p)
{
	_cleanup_(freep) gid_t *all = xcalloc(1, size);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, all, &size) < 0)
		return err_origin(-errno);
	memcpy(p->groups, all, sizeof(p->groups));
	p->n_groups = PEER_GROUPS_MAX;
	log_warning("uid %u is in %zu groups; only the first %d are looked at", (unsigned)p->uid,
		    size / sizeof(gid_t), PEER_GROUPS_MAX);
	return 0;
}

static int peer_read_groups(int fd, struct peer *p)
{
	socklen_t size = sizeof(p->groups);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, p->groups, &size) == 0) {
		p->n_groups = size / sizeof(gid_t);
		return 0;
	}
	/* the kernel has put the size it needs there, at most 65,536 groups */
	if (errno == ERANGE)
		return peer_read_many_groups(fd, size, p);
	return err_origin(-errno);
}

static bool peer_is_shortage(int r)
{
	return r == -EMFILE || r == -ENFILE || r == -ENOMEM;
}

/*
 * Before Linux 6.5: by number. Between connect() and here the number may have gone to another
 * process, but not between the two readings of its start time.
 */
static int peer_open_by_pid(const struct peer *p)
{
	uint64_t start = 0;
	int r = process_start_time(p->pid, &start);

	return r < 0 ? r : process_open_same(p->pid, start);
}

/* -1 if the process cannot be pinned. */
static int peer_open_pidfd(int fd, const struct peer *p, int *ret)
{
	int pidfd = -1, r = 0;
	socklen_t size = sizeof(pidfd);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) < 0)
		r = -errno;
	if (r == -ENOPROTOOPT) {
		pidfd = peer_open_by_pid(p);
		r = MIN_OF(pidfd, 0);
	}
	if (peer_is_shortage(r))
		return r;
	*ret = r < 0 ? -1 : pidfd;
	return 0;
}

/* Its executable, as far as we may see it. A path that does not fit is not cut: it would name
 * another file. */
static void peer_read_exe(struct peer *p)
{
	char path[32];
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%d/exe", (int)p->pid); /* fits */
	n = readlink(path, p->exe, sizeof(p->exe));
	if (n < 0 || (size_t)n >= sizeof(p->exe))
		n = 0;
	p->exe[n] = '\0';
}

/* Start time and executable of a process that is still there; without them if it has ended. */
static int peer_read_process(struct peer *p, int pidfd)
{
	int r;

	if (pidfd < 0 || p->pid <= 0)
		return 0;
	r = process_start_time(p->pid, &p->start_time);
	peer_read_exe(p);
	if (r < 0 || process_ended(pidfd)) {
		p->start_time = 0;
		p->exe[0] = '\0';
	}
	return peer_is_shortage(r) ? r : 0;
}

int peer_read(int fd, struct peer *ret, int *ret_pidfd)
{
	_cleanup_(fd_close) int pidfd = -1;
	struct ucred cred;
	socklen_t size = sizeof(cred);
	struct peer p = { 0 };
	int r;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) < 0)
		return err_origin(-errno);
	p.uid = cred.uid;
	p.gid = cred.gid;
	p.pid = cred.pid;
	r = peer_read_groups(fd, &p);
	if (r < 0)
		return r;
	r = peer_open_pidfd(fd, &p, &pidfd);
	if (r < 0)
		return r;
	r = peer_read_process(&p, pidfd);
	if (r < 0)
		return r;
	*ret = p;
	*ret_pidfd = take_fd(&pidfd);
	return 0;
}
