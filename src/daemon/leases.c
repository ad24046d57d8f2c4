/* Active leases: found by their ids and by the requests that they answer, ended by themselves or on
 * demand. What holds them is in holders.c. */
#include "daemon/leases.h"

#include <errno.h>
#include <event2/event.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "core/audit.h"
#include "daemon/account.h"
#include "daemon/daemon.h"
#include "daemon/holders.h"
#include "daemon/keys.h"
#include "daemon/rotation.h"
#include "daemon/turn.h"

#define LEASE_RETRY_MS 1000

struct leases {
	struct daemon *d;
	struct lease *by_id;
	struct lease *by_request;
	struct holder *holders;
};

struct leases *leases_new(struct daemon *d)
{
	struct leases *leases = xcalloc(1, sizeof(*leases));

	leases->d = d;
	return leases;
}

bool lease_is_stale(const struct lease *l)
{
	const struct profile *p = config_profile(l->d->config, l->row.profile);

	return p && (l->row.key_id[0] != '\0') == (p->mode == PROFILE_STATIC);
}

static void lease_unindex(struct lease *l)
{
	if (l->indexed)
		HASH_DELETE(by_request, l->d->leases->by_request, l);
	l->indexed = false;
}

static void lease_free(struct lease *l)
{
	lease_unindex(l);
	holder_leave(l);
	if (l->timer)
		event_free(l->timer);
	if (l->key)
		key_unpin(l->key);
	if (l->account) {
		l->account->leases--;
		account_put(l->d->accounts, l->account);
	}
	free(l);
}

void leases_free(struct leases *leases)
{
	struct lease *l, *next;

	if (!leases)
		return;
	HASH_ITER (by_id, leases->by_id, l, next) {
		HASH_DELETE(by_id, leases->by_id, l);
		lease_free(l);
	}
	free(leases);
}

struct holder_id lease_holder_id(const struct lease_row *row)
{
	if (row->bind == LEASE_TTL)
		return (struct holder_id){ 0 };
	return (struct holder_id){ .pid = row->holder_pid, .start = row->holder_start };
}

static void lease_request_set(struct lease_request *to, const struct lease_row *row,
			      struct holder_id holder)
{
	memset(to, 0, sizeof(*to));
	to->uid = row->uid;
	to->holder = holder;
	text_copy(to->listen, sizeof(to->listen), row->listen);
	text_copy(to->profile, sizeof(to->profile), row->profile);
	text_copy(to->request_id, sizeof(to->request_id), row->request_id);
}

static void lease_index(struct lease *l)
{
	struct leases *leases = l->d->leases;
	struct lease *first;

	if (!l->row.request_id[0])
		return;
	lease_request_set(&l->request, &l->row, lease_holder_id(&l->row));
	HASH_FIND(by_request, leases->by_request, &l->request, sizeof(l->request), first);
	if (first && (first->ending || lease_is_stale(first)))
		lease_unindex(TAKE(first));
	l->indexed = !first;
	if (l->indexed)
		HASH_ADD(by_request, leases->by_request, request, sizeof(l->request), l);
}

struct lease *lease_new(struct daemon *d, const struct lease_row *row, struct key *key)
{
	struct lease *l = xcalloc(1, sizeof(*l));

	l->d = d;
	l->row = *row;
	l->key = key;
	l->acked = key ? key->row.generation : 0;
	if (key)
		key_pin(key);
	l->account = account_get(d->accounts, row->uid, row->listen);
	l->account->leases++;
	lease_index(l);
	return l;
}

static void lease_count(struct lease *l, int by)
{
	if (!l->key)
		return;
	l->key->n_leases += (unsigned)by;
	if (!l->row.refreshable)
		l->key->n_fixed += (unsigned)by;
}

static void lease_on_timer(int fd, short what, void *userdata)
{
	struct lease *l = userdata;

	(void)fd;
	(void)what;
	if (l->due)
		lease_end(l, l->due_state, l->due, NULL, NULL, NULL);
	else if (l->ends_boot_ms > clock_now().boot_ms)
		lease_look_again(l); /* renewed, or over a day away */
	else
		lease_end(l, l->row.bind == LEASE_TTL ? LEASE_EXPIRED : LEASE_RELEASED,
			  l->row.bind == LEASE_TTL ? "expire" : "release", NULL, NULL, NULL);
}

static void lease_timer_in(struct lease *l, int64_t ms)
{
	int64_t wait = MIN_OF(MAX_OF(ms, 1), INT64_C(86400000));
	struct timeval tv = { .tv_sec = wait / 1000, .tv_usec = wait % 1000 * 1000 };

	if (!l->timer)
		l->timer = evtimer_new(l->d->base, lease_on_timer, l);
	if (!l->timer)
		abort();
	(void)evtimer_add(l->timer,
			  &tv); /* fails only without memory, when the process ends anyway */
}

void lease_look_again(struct lease *l)
{
	if (l->ends_boot_ms)
		lease_timer_in(l, l->ends_boot_ms - clock_now().boot_ms);
}

void lease_move(struct lease *l, struct key *key)
{
	struct key *old = l->key;

	if (old == key || l->ending)
		return;
	lease_count(l, -1);
	key_pin(key);
	l->key = key;
	lease_count(l, 1);
	if (old) {
		key_drive(old);
		key_unpin(old);
	}
}

/* It is committed: counts for its key, and is found by its id. */
static void lease_enter(struct lease *l)
{
	l->counted = true;
	lease_count(l, 1);
	HASH_ADD_KEYPTR(by_id, l->d->leases->by_id, l->row.id, strlen(l->row.id), l);
}

static void lease_set_end(struct lease *l)
{
	l->ends_boot_ms = l->row.ends_boot_ms;
	l->life_ms = l->ends_boot_ms - clock_now().boot_ms;
	lease_look_again(l);
}

int lease_begin(struct lease *l, int pidfd)
{
	lease_enter(l);
	if (l->row.bind == LEASE_PROCESS)
		return holder_join(&l->d->leases->holders, l, pidfd);
	if (l->row.bind == LEASE_CONNECTION)
		return l->tie.conn ? 0 : -ESRCH;
	lease_set_end(l);
	return 0;
}

void lease_await(struct lease *l, int pidfd)
{
	lease_enter(l);
	l->ends_boot_ms = clock_now().boot_ms + l->d->config->timing.takeover_ms;
	lease_look_again(l);
	if (pidfd >= 0) /* whatever comes of it: nobody else may take it up */
		(void)!holder_join(&l->d->leases->holders, l, pidfd);
}

static bool lease_is_awaited(const struct lease *l)
{
	return l->row.bind != LEASE_TTL && l->ends_boot_ms != 0;
}

bool lease_take_up(struct lease *l, struct request *r)
{
	bool awaited = lease_is_awaited(l);

	if (l->row.bind == LEASE_CONNECTION)
		awaited = holder_connect(l, r) && awaited;
	else if (awaited)
		awaited = holder_join(&l->d->leases->holders, l, request_pidfd(r)) == 0;
	if (awaited) {
		l->ends_boot_ms = 0;
		(void)evtimer_del(l->timer); /* fails for one that was never made */
	}
	return awaited;
}

void lease_pin(struct lease *l)
{
	l->pins++;
}

void lease_unpin(struct lease *l)
{
	l->pins--;
	if (l->pins > 0 || (l->counted && l->row.state == LEASE_ACTIVE))
		return;
	if (l->counted)
		HASH_DELETE(by_id, l->d->leases->by_id, l);
	lease_free(l);
}

struct lease_row *lease_pending(struct lease *l)
{
	if (!l->drafted)
		l->pending = l->row;
	l->drafted = true;
	return &l->pending;
}

void lease_settle(struct lease *l, bool committed)
{
	bool moved = l->drafted && committed && l->counted &&
		     l->pending.ends_boot_ms != l->row.ends_boot_ms;

	if (l->drafted && committed)
		l->row = l->pending;
	l->drafted = false;
	if (!moved)
		return;
	lease_set_end(l);
}

void lease_row_set(struct lease_row *row, unsigned set, const struct lease_row *to)
{
	if (set & LEASE_SET_ALL)
		*row = *to;
	if (set & LEASE_SET_STATE && row->state == LEASE_ACTIVE) {
		row->state = to->state;
		row->ended_at_ms = to->ended_at_ms;
	}
	if (set & LEASE_SET_ENDS_AT) {
		row->ends_at_ms = to->ends_at_ms;
		row->ends_boot_ms = to->ends_boot_ms;
		memcpy(row->boot_id, to->boot_id, sizeof(row->boot_id));
	}
	if (set & LEASE_SET_KEY)
		memcpy(row->key_id, to->key_id, sizeof(row->key_id));
}

struct lease *leases_find(const struct leases *leases, const char *id)
{
	struct lease *l;

	HASH_FIND(by_id, leases->by_id, id, strlen(id), l);
	return l && !l->ending && !l->due ? l : NULL;
}

struct lease *leases_first(const struct leases *leases)
{
	return leases->by_id;
}

struct lease *leases_next(const struct lease *l)
{
	return l->by_id.next;
}

uint64_t leases_count(const struct leases *leases)
{
	return HASH_CNT(by_id, leases->by_id);
}

static bool lease_is_peer(struct holder_id id, const struct peer *peer)
{
	return id.pid == peer->pid && id.start == peer->start_time;
}

bool lease_is_of(const struct lease *l, const struct peer *peer)
{
	if (l->row.uid != peer->uid || strcmp(l->row.listen, peer->listen) != 0)
		return false;
	return l->row.bind == LEASE_TTL || lease_is_peer(lease_holder_id(&l->row), peer) ||
	       (l->asker.start != 0 && lease_is_peer(l->asker, peer));
}

static struct lease *leases_find_one(const struct leases *leases,
				     const struct lease_request *wanted)
{
	struct lease *l;

	HASH_FIND(by_request, leases->by_request, wanted, sizeof(*wanted), l);
	return l && !l->ending && !l->due && !lease_is_stale(l) ? l : NULL;
}

struct lease *leases_find_request(const struct leases *leases, const struct peer *peer,
				  struct holder_id holder, const char *profile,
				  const char *request_id)
{
	struct lease_row row = { .uid = peer->uid };
	struct lease_request wanted;
	struct lease *l;

	text_copy(row.listen, sizeof(row.listen), peer->listen);
	text_copy(row.profile, sizeof(row.profile), profile);
	text_copy(row.request_id, sizeof(row.request_id), request_id);
	lease_request_set(&wanted, &row, (struct holder_id){ 0 });
	l = leases_find_one(leases, &wanted);
	wanted.holder = holder;
	return l ? l : leases_find_one(leases, &wanted);
}

/* Carries a lease's end through the commit. */
struct lease_ending {
	struct lease *lease;
	enum lease_state state;
	const char *event;
	bool by_itself;
	lease_ended_fn done;
	void *userdata;
};

/* Nothing has happened; but what ends a lease may have come meanwhile, and comes only once. */
static void lease_not_ended(struct lease *l, const struct lease_ending *e)
{
	l->ending = false;
	lease_count(l, 1);
	if (e->by_itself) {
		l->due = e->event;
		l->due_state = e->state;
	}
	if (l->due || l->ends_boot_ms || holder_is_gone(l))
		lease_timer_in(l, LEASE_RETRY_MS);
}

static void lease_ended(void *userdata, int outcome)
{
	struct lease_ending *e = userdata;
	struct lease *l = e->lease;

	if (outcome != 0) {
		lease_not_ended(l, e);
	} else {
		holder_leave(l);
		rotation_lease_ended(l);
		if (l->key)
			key_drive(l->key);
	}
	if (e->done)
		e->done(e->userdata, outcome);
	free(e);
}

/* A dedicated key goes with its last lease, in the same commit. */
static void lease_end_key(struct lease *l, struct change *c, int64_t now)
{
	struct key_row to = { .state = KEY_RETIRING, .changed_at_ms = now, .delete_at_ms = now };

	if (l->key && l->key->row.mode == PROFILE_DEDICATED && l->key->row.state == KEY_LIVE &&
	    l->key->n_leases == 0)
		change_key(c, l->key, KEY_SET_STATE | KEY_SET_DELETE_AT, &to);
}

void lease_describe(const struct lease *l, struct audit_row *a)
{
	if (l->key)
		key_describe(l->key, a);
	text_copy(a->profile, sizeof(a->profile), l->row.profile);
	text_copy(a->lease, sizeof(a->lease), l->row.id);
	text_copy(a->rule, sizeof(a->rule), l->row.rule);
}

/* Of one that ends by itself. */
static const char *lease_release_reason(const struct lease *l)
{
	if (lease_is_awaited(l))
		return "it was not taken up again after a change of leader";
	return l->row.bind == LEASE_PROCESS ? "its process has ended" : "its connection was closed";
}

static void lease_end_describe(const struct lease *l, enum lease_state state, const struct peer *by,
			       struct audit_row *a)
{
	static const char *const reasons[] = {
		[LEASE_EXPIRED] = "its time was over", [LEASE_REVOKED] = "its key is gone"
	};

	lease_describe(l, a);
	if (by && state == LEASE_REVOKED)
		(void)snprintf(a->detail, sizeof(a->detail), "held by uid %u, pid %d", l->row.uid,
			       (int)l->row.pid);
	if (by)
		return;
	a->uid = l->row.uid;
	a->gid = l->row.gid;
	a->pid = l->row.bind == LEASE_PROCESS ? l->row.holder_pid : l->row.pid;
	a->start_time = l->row.holder_start;
	text_copy(a->detail, sizeof(a->detail),
		  state == LEASE_RELEASED ? lease_release_reason(l) : reasons[state]);
}

void lease_end(struct lease *l, enum lease_state state, const char *event, const struct peer *by,
	       lease_ended_fn done, void *userdata)
{
	struct lease_ending *e;
	struct audit_row *a;
	struct change *c;
	struct lease_row to = { .state = state };

	if (l->ending)
		return;
	e = xcalloc(1, sizeof(*e));
	e->lease = l;
	e->state = state;
	e->event = event;
	e->by_itself = !by;
	e->done = done;
	e->userdata = userdata;
	l->ending = true;
	lease_count(l, -1);
	c = change_new(l->d->turn, lease_ended, e);
	a = change_audit(c, event, "ok", by);
	to.ended_at_ms = a->wall_ms;
	lease_end_describe(l, state, by, a);
	change_lease(c, l, LEASE_SET_STATE, &to);
	lease_end_key(l, c, a->wall_ms);
	change_submit(c);
}
