/*
 * Pids are looked up in /proc by number, and numbers are used again. So the way up is read twice:
 * who has the same parent before and after had it all the time, since no new process becomes
 * somebody's parent. And the two ends are seen alive through their pidfds after that.
 */
#include "io/ancestor.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "io/process.h"

#define ANCESTOR_DEPTH 64

struct ancestor_link {
	pid_t pid;
	uint64_t start;
};

struct ancestor_way {
	struct ancestor_link links[ANCESTOR_DEPTH]; /* the peer first */
	size_t n;
};

static enum ancestor ancestor_from_errno(int r)
{
	return r == -ESRCH ? ANCESTOR_GONE : ANCESTOR_UNSEEN;
}

/* From `pid` up to `to`, both included. */
static enum ancestor ancestor_way_read(struct ancestor_way *way, pid_t pid, pid_t to)
{
	for (way->n = 0; way->n < ANCESTOR_DEPTH; way->n++) {
		struct ancestor_link *link = &way->links[way->n];
		pid_t parent = 0;
		int r = process_parent(pid, &parent, &link->start);

		if (r < 0)
			return ancestor_from_errno(r);
		link->pid = pid;
		if (pid == to && way->n > 0) {
			way->n++;
			return ANCESTOR_YES;
		}
		if (parent == 0)
			return ANCESTOR_NO;
		pid = parent;
	}
	return ANCESTOR_NO;
}

static bool ancestor_way_is(const struct ancestor_way *a, const struct ancestor_way *b)
{
	bool same = a->n == b->n;

	for (size_t i = 0; same && i < a->n; i++)
		same = a->links[i].pid == b->links[i].pid && a->links[i].start == b->links[i].start;
	return same;
}

static enum ancestor ancestor_look(const struct peer *peer, pid_t pid, struct ancestor_way *way)
{
	struct ancestor_way again;
	enum ancestor a = ancestor_way_read(way, peer->pid, pid);
	uid_t real = 0, effective = 0;
	int r;

	if (a != ANCESTOR_YES)
		return a;
	r = process_uids(pid, &real, &effective);
	if (r < 0)
		return ancestor_from_errno(r);
	if (real != peer->uid || effective != peer->uid)
		return ANCESTOR_OTHER_UID;
	a = ancestor_way_read(&again, peer->pid, pid);
	if (a != ANCESTOR_YES)
		return a;
	return ancestor_way_is(way, &again) && way->links[0].start == peer->start_time
		       ? ANCESTOR_YES
		       : ANCESTOR_GONE;
}

enum ancestor ancestor_check(const struct peer *peer, int peer_pidfd, int pidfd, pid_t *ret_pid,
			     uint64_t *ret_start)
{
	struct ancestor_way way;
	enum ancestor a;
	pid_t pid = 0;
	int r = process_pid_of(pidfd, &pid);

	if (r < 0)
		return r == -EBADF ? ANCESTOR_NO_PIDFD : ancestor_from_errno(r);
	if (peer->pid == 0 || pid == 0 || peer_pidfd < 0)
		return ANCESTOR_UNSEEN;
	a = ancestor_look(peer, pid, &way);
	if (process_ended(pidfd) || process_ended(peer_pidfd))
		return ANCESTOR_GONE;
	if (a != ANCESTOR_YES)
		return a;
	*ret_pid = pid;
	*ret_start = way.links[way.n - 1].start;
	return ANCESTOR_YES;
}
