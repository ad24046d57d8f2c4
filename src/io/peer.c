/*
 * Who is at the other end, as the kernel says it. Everything that is read from /proc by number is
 * believed only if the pidfd shows the process alive afterwards. Decides nothing.
 */
#include "io/peer.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "io/process.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5; the headers of Debian 12 are older */
#endif
#define PEER_PIDFS_MAGIC 0x50494446

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

/* Linux 6.5 and later say which process connected. A testing build can be told to do without. */
static int peer_ask_pidfd(int fd, int *ret)
{
	socklen_t size = sizeof(*ret);

#ifdef KEYBROKER_TESTING
	if (getenv("KEYBROKER_NO_PEERPIDFD"))
		return -ENOPROTOOPT;
#endif
	return getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, ret, &size) < 0 ? -errno : 0;
}

bool peer_is_told(void)
{
	int pair[2], pidfd = -1, r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return false;
	r = peer_ask_pidfd(pair[0], &pidfd);
	fd_close(&pidfd);
	(void)close(pair[0]);
	(void)close(pair[1]);
	return r == 0;
}

/* Both ends closed by the peer: who connected has ended, or wants nothing any more. */
static bool peer_hung_up(int fd)
{
	struct pollfd p = { .fd = fd };

	return poll(&p, 1, 0) == 1 && p.revents & POLLHUP;
}

/*
 * By number. Between connect() and here the number may have gone to another process, but not
 * between the two readings of its start time; and then whoever connected has left the socket, or
 * it is another uid's. What is left is a forked child that keeps the socket: receive() tells.
 */
static int peer_open_by_pid(int fd, const struct peer *p)
{
	_cleanup_(fd_close) int pidfd = -1;
	uint64_t start = 0;
	uid_t real, uid;
	int r = process_start_time(p->pid, &start);

	if (r < 0)
		return r;
	pidfd = process_open_same(p->pid, start);
	if (pidfd < 0)
		return pidfd;
	r = process_uids(p->pid, &real, &uid);
	if (r < 0)
		return r;
	return uid != p->uid || peer_hung_up(fd) || process_ended(pidfd) ? -ESRCH : take_fd(&pidfd);
}

/* -1 if the process cannot be pinned. */
static int peer_open_pidfd(int fd, struct peer *p, int *ret)
{
	int pidfd = -1, r = peer_ask_pidfd(fd, &pidfd);

	p->pinned = r == 0;
	if (r == -ENOPROTOOPT && p->pid > 0) {
		pidfd = peer_open_by_pid(fd, p);
		r = MIN_OF(pidfd, 0);
		p->ended = r == -ESRCH;
	} else if (r == 0) {
		p->ended = process_ended(pidfd);
	} else {
		p->ended = r != -ENOPROTOOPT && !peer_is_shortage(r); /* it was reaped */
	}
	if (peer_is_shortage(r))
		return r;
	*ret = r < 0 ? -1 : pidfd;
	return 0;
}

/* The path that a process sees may be another file's here: it counts only if it is the same. */
static bool peer_is_file(const char *exe, const char *path)
{
	struct stat a, b;

	return stat(exe, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
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
	p->exe_elsewhere = n > 0 && !peer_is_file(path, p->exe);
}

/* Before Linux 6.9 each pidfd has the same inode, and a foreign process no name at all. */
static uint64_t peer_foreign_name(int pidfd)
{
	struct statfs fs;
	struct stat st;

	if (fstatfs(pidfd, &fs) < 0 || fs.f_type != PEER_PIDFS_MAGIC || fstat(pidfd, &st) < 0)
		return 0;
	return st.st_ino;
}

/* What /proc says of a process that is still there; nothing if it has ended. */
static int peer_read_process(struct peer *p, int pidfd)
{
	int r, units;

	if (pidfd < 0)
		return 0;
	if (p->pid <= 0) {
		p->start_time = peer_foreign_name(pidfd);
		return 0;
	}
	r = process_start_time(p->pid, &p->start_time);
	peer_read_exe(p);
	units = process_units(p->pid, p->unit, p->user_unit);
	if (r < 0 || process_ended(pidfd)) {
		p->start_time = 0;
		p->exe[0] = p->unit[0] = p->user_unit[0] = '\0';
		p->exe_elsewhere = false;
	}
	if (peer_is_shortage(units))
		return units;
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
