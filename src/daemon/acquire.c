/*
 * acquire: reads and checks what is asked, finds or orders the key, and grants it: lease and audit
 * row are committed before the key leaves. Owns a struct acquire from the request's arrival to its
 * reply.
 */
#include "daemon/acquire.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fd.h"
#include "daemon/account.h"
#include "daemon/acquire_reply.h"
#include "daemon/daemon.h"
#include "daemon/denials.h"
#include "daemon/holders.h"
#include "daemon/key_work.h"
#include "daemon/keys.h"
#include "daemon/leases.h"
#include "daemon/shared.h"
#include "daemon/turn.h"
#include "daemon/watch.h"

static void acquire_free(struct acquire *a)
{
	if (a->list)
		TAILQ_REMOVE(a->list, a, waiting);
	if (a->timer)
		event_free(a->timer);
	if (a->reread)
		lease_unpin(a->lease);
	fd_close(&a->holder_fd);
	if (a->charged) {
		account_hold(a->d->accounts, a->charged, -1);
		account_put(a->d->accounts, a->charged);
	}
	free(a->base_url);
	free(a);
}

static int acquire_pidfd(const struct acquire *a)
{
	return a->holder_fd >= 0 ? a->holder_fd : request_pidfd(a->request);
}

static void acquire_leave(struct acquire *a)
{
	if (a->list)
		TAILQ_REMOVE(a->list, a, waiting);
	a->list = NULL;
	if (a->timer)
		event_free(TAKE(a->timer));
	a->request->gone = NULL;
}

void acquire_done(struct acquire *a)
{
	acquire_free(a);
}

void acquire_fail(struct acquire *a, enum proto_error code, int64_t retry_after_ms,
		  const char *message)
{
	struct request *r = a->request;

	acquire_leave(a);
	acquire_free(a);
	request_fail(r, code, retry_after_ms, "%s", message);
}

void acquire_fail_all(struct acquire_list *list, enum proto_error code, int64_t retry_after_ms,
		      const char *message)
{
	struct acquire *a;

	while ((a = TAILQ_FIRST(list)))
		acquire_fail(a, code, retry_after_ms, message);
}

static void acquire_gone(struct request *r)
{
	acquire_free(r->waiting_for);
	request_free(r);
}

static void acquire_on_deadline(int fd, short what, void *userdata)
{
	struct acquire *a = userdata;
	struct shared *s = shared_find(a->d, a->profile);
	char message[600];

	(void)fd;
	(void)what;
	(void)snprintf(message, sizeof(message), "upstream has not given a key in time%s%s",
		       s && s->error[0] ? ": " : "", s ? s->error : "");
	acquire_fail(a, PROTO_UPSTREAM_UNAVAILABLE, a->d->config->timing.upstream_recheck_ms,
		     message);
}

/* A peer that has gone gets nothing, and nobody would tell us of it again. True: the acquire is
 * freed. */
static bool acquire_is_of_the_dead(struct acquire *a)
{
	struct request *r = a->request;

	if (request_alive(r))
		return false;
	acquire_leave(a);
	acquire_free(a);
	request_free(r);
	return true;
}

void acquire_wait(struct acquire *a, struct acquire_list *list)
{
	int64_t ms = MAX_OF(a->deadline_ms - clock_now().boot_ms, 1);
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	if (acquire_is_of_the_dead(a))
		return;
	a->list = list;
	TAILQ_INSERT_TAIL(list, a, waiting);
	a->request->gone = acquire_gone;
	a->request->waiting_for = a;
	if (!a->timer)
		a->timer = evtimer_new(a->d->base, acquire_on_deadline, a);
	if (!a->timer)
		abort();
	(void)evtimer_add(a->timer,
			  &tv); /* fails only without memory, when the process ends anyway */
}

/* --- granting --- */

/*
 * A repeat of an acquire that has its lease, or gets it in this very turn, has the same. False: the
 * lease is another kind of thing than what is asked for now, and the acquire was ended.
 */
static bool acquire_join(struct acquire *a)
{
	struct lease *l;

	if (a->reread || !a->request_id[0])
		return true;
	l = leases_find_request(a->d->leases, request_peer(a->request), a->holder, a->profile,
				a->request_id);
	if (!l)
		return true;
	if (l->row.bind != a->bind || l->row.refreshable != a->refreshable) {
		acquire_fail(a, PROTO_INVALID_REQUEST, -1, "this request_id named another acquire");
		return false;
	}
	a->reread = true;
	a->lease = l;
	a->taken_up = lease_take_up(l, a->request);
	lease_pin(l); /* until acquire_free() */
	return true;
}

/* What a re-read gets: the key of its lease; only a refreshable one moves with its shared profile.
 */
static struct key *acquire_key(const struct acquire *a, struct key *offered)
{
	struct key *held = a->reread ? a->lease->key : NULL;

	if (held && (held->row.mode == PROFILE_DEDICATED || !a->lease->row.refreshable))
		return held;
	return offered;
}

/* The new lease is on record: it begins, and its key leaves, or it ends. */
static void acquire_begin(struct acquire *a)
{
	struct lease *l = a->lease;
	int r = lease_begin(l, acquire_pidfd(a));

	if (r == 0 && !(a->key && a->key->dead)) {
		watch_begun(a->d->watch, l);
		if (acquire_reply(a))
			return;
	} else if (r == 0) {
		acquire_fail(a, PROTO_UPSTREAM_UNAVAILABLE, 100,
			     "the key was taken away meanwhile; ask again");
	} else if (r == -ESRCH) {
		acquire_fail(a, PROTO_DENIED, -1,
			     l->row.bind == LEASE_CONNECTION ? "the connection was closed"
							     : "the process has ended");
	} else {
		acquire_fail(a, PROTO_LIMIT_EXCEEDED, 1000,
			     "the broker has no descriptor left to watch the process with");
	}
	lease_end(l, LEASE_RELEASED, "release", NULL, NULL, NULL);
}

static void acquire_stored(void *userdata, int outcome)
{
	struct acquire *a = userdata;
	struct lease *l = a->lease;
	struct key *k = a->key;
	bool minted = k && a->mints;
	bool pooled = k && k->pooled.taken;
	char why[TURN_WHY_SIZE];

	if (k)
		k->on_the_way--;
	if (minted)
		k->storing = false;
	if (pooled)
		pool_handed_out(k, outcome == 0);
	if (outcome != 0) {
		acquire_fail(a, PROTO_AUDIT_UNAVAILABLE, 1000,
			     turn_why(outcome, "the access", why));
		if (minted)
			key_retry(k);
		return;
	}
	if (a->reread && (l->ending || l->row.state != LEASE_ACTIVE)) {
		acquire_fail(a, PROTO_UNKNOWN_LEASE, -1, "this lease has ended");
	} else if (a->reread) {
		lease_move(l, k);
		watch_begun(a->d->watch, l);
		(void)acquire_reply(a); /* the lease stays as it was */
	} else {
		acquire_begin(a);
	}
	if (k && k->row.mode == PROFILE_DEDICATED)
		key_drop_secret(k);
	if (k)
		key_drive(k);
}

static struct lease *acquire_lease(struct acquire *a, struct key *key)
{
	const struct peer *p = request_peer(a->request);
	struct instant now = clock_now();
	struct lease *l;
	struct lease_row row = { .bind = a->bind,
				 .refreshable = a->refreshable,
				 .uid = p->uid,
				 .gid = p->gid,
				 .pid = p->pid,
				 .granted_at_ms = now.wall_ms };

	crypt_draw_id(row.id);
	memcpy(row.profile, a->profile, sizeof(row.profile));
	memcpy(row.rule, a->rule, sizeof(row.rule));
	memcpy(row.request_id, a->request_id, sizeof(row.request_id));
	memcpy(row.boot_id, a->d->boot_id, sizeof(row.boot_id));
	memcpy(row.listen, p->listen, sizeof(row.listen));
	row.pidns = a->d->self.pidns;
	if (key)
		memcpy(row.key_id, key->row.id, sizeof(row.key_id));
	if (a->bind == LEASE_TTL) {
		row.ends_at_ms = now.wall_ms + a->ttl_ms;
		row.ends_boot_ms = now.boot_ms + a->ttl_ms; /* the clock may be set */
	} else {
		row.holder_pid = (pid_t)a->holder.pid;
		row.holder_start = a->holder.start;
	}
	l = lease_new(a->d, &row, key);
	if (a->holder_fd >= 0)
		l->asker = (struct holder_id){ .pid = p->pid, .start = p->start_time };
	if (a->bind == LEASE_CONNECTION)
		(void)holder_connect(l, a->request); /* lease_begin() sees whether it lasted */
	return l;
}

/* The fresh dedicated key becomes live in the commit that hands it out. */
static void acquire_mint_rows(struct acquire *a, struct change *c)
{
	struct key *k = a->key;
	struct audit_row *row;
	struct key_row to;

	if (!k || k->row.state != KEY_INTENT || k->storing)
		return;
	to = k->row;
	row = change_audit(c, "mint", "ok", request_peer(a->request));
	key_describe(k, row);
	memcpy(row->rule, a->rule, sizeof(row->rule));
	memcpy(row->lease, a->lease->row.id, sizeof(row->lease));
	(void)snprintf(row->detail, sizeof(row->detail), "%s", k->row.alias);
	to.state = KEY_LIVE;
	to.changed_at_ms = row->wall_ms;
	change_key(c, k,
		   KEY_SET_STATE | KEY_SET_EXPIRY | KEY_SET_TEAM | KEY_SET_IDENTITY |
			   KEY_SET_DELETE_AT,
		   &to);
	change_key_secret(c, k->row.source == KEY_SERVER_CHOSEN ? k->secret : NULL);
	a->mints = true;
	k->storing = true;
}

static void acquire_audit(struct acquire *a, struct change *c)
{
	struct audit_row *row = change_audit(c, "acquire", "ok", request_peer(a->request));

	if (a->key)
		key_describe(a->key, row);
	else
		acquire_describe_static(a, row);
	memcpy(row->profile, a->profile, sizeof(row->profile));
	memcpy(row->rule, a->rule, sizeof(row->rule));
	memcpy(row->lease, a->lease->row.id, sizeof(row->lease));
	if (a->reread)
		(void)snprintf(row->detail, sizeof(row->detail), "%s",
			       a->taken_up ? "taken up again" : "read again");
	else if (a->key && a->key->pooled.taken)
		(void)snprintf(row->detail, sizeof(row->detail), "from the pool: %s",
			       a->key->row.alias);
	else if (a->holder_fd >= 0)
		(void)snprintf(row->detail, sizeof(row->detail), "for process %d",
			       (int)a->holder.pid);
}

/* A refreshable lease moves to the profile's current key. */
static void acquire_move_lease(struct acquire *a, struct change *c)
{
	struct lease_row to;

	if (!a->key || a->lease->key == a->key)
		return;
	memcpy(to.key_id, a->key->row.id, sizeof(to.key_id));
	change_lease(c, a->lease, LEASE_SET_KEY, &to);
}

/* A foreign process that the kernel has no name for could not be told from the next one. */
static bool acquire_can_watch(const struct acquire *a)
{
	const struct peer *p = request_peer(a->request);

	return acquire_pidfd(a) >= 0 && (a->holder_fd >= 0 || p->pid != 0 || p->start_time != 0);
}

/* A process that cannot be watched holds no lease that ends with it. */
static void acquire_deny_unpinned(struct acquire *a)
{
	const struct denied what = { "acquire", a->profile, "its process cannot be watched" };

	denials_answer(a->d, a->request, &what,
		       "the kernel does not tell which process you are; ask for bind = ttl");
	acquire_free(a);
}

void acquire_grant(struct acquire *a, struct key *key)
{
	struct change *c;

	acquire_leave(a);
	if (acquire_is_of_the_dead(a))
		return;
	if (!acquire_join(a))
		return;
	key = acquire_key(a, key);
	if (!acquire_is_allowed(a, key))
		return;
	if (!a->reread && request_account(a->request)->leases >= a->max_leases) {
		acquire_fail(a, PROTO_LIMIT_EXCEEDED, 1000,
			     "this uid holds as many leases as it may");
		return;
	}
	if (a->bind == LEASE_PROCESS && !acquire_can_watch(a)) {
		acquire_deny_unpinned(a);
		return;
	}
	if (a->reread && (a->lease->ending || a->lease->row.state != LEASE_ACTIVE)) {
		acquire_fail(a, PROTO_UNKNOWN_LEASE, -1, "this lease has ended");
		return;
	}
	if (key && (key->dead || (key->row.state == KEY_RETIRING && !a->reread))) {
		acquire_fail(a, PROTO_UPSTREAM_UNAVAILABLE, 100,
			     "the key was taken away meanwhile; ask again");
		return;
	}
	a->key = key;
	if (key)
		key->on_the_way++;
	c = change_new(a->d->turn, acquire_stored, a);
	if (a->reread) {
		acquire_move_lease(a, c);
	} else {
		a->lease = acquire_lease(a, key);
		change_lease(c, a->lease, LEASE_SET_ALL, &a->lease->row);
		acquire_mint_rows(a, c);
		if (key && key_row_is_pooled(&key->row))
			pool_hand_out(key, a, c);
	}
	acquire_audit(a, c);
	change_submit(c);
}

void acquire_restart_all(struct acquire_list *list)
{
	struct acquire_list now = TAILQ_HEAD_INITIALIZER(now);
	struct acquire *a;

	TAILQ_CONCAT(&now, list, waiting);
	TAILQ_FOREACH (a, &now, waiting)
		a->list = &now;
	while ((a = TAILQ_FIRST(&now))) {
		const struct profile *p = config_profile(a->d->config, a->profile);

		acquire_leave(a);
		if (p)
			acquire_start(a, p);
		else
			acquire_fail(a, PROTO_UNKNOWN_PROFILE, -1,
				     "the profile is no longer configured");
	}
}

static bool acquire_is_enough(const struct acquire *a, const struct key *k)
{
	return key_remaining_ms(k, clock_now().wall_ms) >= a->min_valid_ms;
}

bool acquire_try(struct acquire *a, struct key *key)
{
	if (!acquire_is_enough(a, key))
		return false;
	acquire_grant(a, key);
	return true;
}

void acquire_grant_all(struct acquire_list *list, struct key *key)
{
	struct acquire_list now = TAILQ_HEAD_INITIALIZER(now);
	struct acquire *a;

	/* What is not good enough goes back to the list, so that list must not be the one that is
	 * walked. */
	TAILQ_CONCAT(&now, list, waiting);
	TAILQ_FOREACH (a, &now, waiting)
		a->list = &now;
	while ((a = TAILQ_FIRST(&now))) {
		if (a->extended || acquire_is_enough(a, key)) {
			acquire_grant(a, key);
			continue;
		}
		acquire_leave(a);
		a->extended = true; /* asked for once; a default wish then takes what there is */
		acquire_wait(a, &key->waiters);
		key->extend_wanted = true;
	}
	if (key->extend_wanted)
		key_drive(key);
}

void acquire_settle_all(struct acquire_list *list, struct key *key, const char *message)
{
	int64_t left = key_remaining_ms(key, clock_now().wall_ms);
	struct acquire *a;

	while ((a = TAILQ_FIRST(list)))
		if (left > 0 && !a->min_valid_asked)
			acquire_grant(a, key);
		else
			acquire_fail(a, PROTO_UPSTREAM_UNAVAILABLE,
				     a->d->config->timing.upstream_recheck_ms, message);
}
