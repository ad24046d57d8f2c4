/* Watchers by the process that watches, or by its uid, and what each has yet to be told. */
#include "daemon/watch.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/map.h"
#include "base/text.h"
#include "daemon/daemon.h"
#include "daemon/keys.h"
#include "daemon/leases.h"
#include "daemon/op.h"
#include "daemon/op_map.h"
#include "daemon/rotation.h"
#include "daemon/shared.h"
#include "proto/message.h"

#define WATCH_PER_SUBJECT 8   /* connections that watch one process, or one uid */
#define WATCH_NOTES_MAX 8192  /* who lets so many leases wait is hung up on */
#define WATCH_MESSAGE_MAX 256 /* bytes of one notification: ids, a profile's name, a number */
#define WATCH_BATCH_MAX 4096
#define WATCH_TICK_MS 1000

enum watch_event {
	WATCH_ROTATED = 1 << 0,
	WATCH_EXPIRING = 1 << 1,
	WATCH_REVOKED = 1 << 2, /* whatever else there was to tell: it is over */
};

#define WATCH_WHOLE_UID (-1) /* in place of a pid */

/* One process of a uid, or the uid itself, by one `listen` section or none. Hashed as a whole:
 * zeroed before use. */
struct watch_id {
	int64_t uid, pid;
	char listen[PEER_LISTEN_SIZE];
};

TAILQ_HEAD(watcher_list, watcher);

struct watch_subject {
	struct watch_id id;
	struct watcher_list watchers;
	unsigned n;
	UT_hash_handle by_id;
};

/* What a watcher has yet to be told of one lease. */
struct watch_note {
	char lease[ID_SIZE];
	char profile[PROFILE_NAME_MAX];
	unsigned events;
	uint64_t generation;
	int64_t ends_at_ms;
	UT_hash_handle by_lease;
};

struct watcher {
	TAILQ_ENTRY(watcher) of_subject, of_pending;
	struct watch *watch;
	struct watch_subject *subject;
	struct request *request;
	struct watch_note *notes; /* in the order in which they came */
	bool pending;
};

struct watch {
	struct daemon *d;
	struct watch_subject *subjects;
	struct watcher_list pending; /* who has notes */
	struct event *tick;	     /* armed while anybody watches: leases near their end */
	int64_t looked_ms;	     /* boot time up to which those are told of */
};

static void watch_on_tick(int fd, short what, void *userdata);

struct watch *watch_new(struct daemon *d)
{
	struct watch *w = xcalloc(1, sizeof(*w));

	w->d = d;
	TAILQ_INIT(&w->pending);
	w->tick = evtimer_new(d->base, watch_on_tick, w);
	if (!w->tick)
		abort();
	return w;
}

/* --- who watches --- */

static void watch_id_set(struct watch_id *id, int64_t uid, int64_t pid, const char *listen)
{
	memset(id, 0, sizeof(*id));
	id->uid = uid;
	id->pid = pid;
	text_copy(id->listen, sizeof(id->listen), listen);
}

static struct watch_subject *watch_find(const struct watch *w, const struct watch_id *id)
{
	struct watch_subject *s;

	HASH_FIND(by_id, w->subjects, id, sizeof(*id), s);
	return s;
}

static struct watch_subject *watch_subject(struct watch *w, const struct watch_id *id)
{
	struct watch_subject *s = watch_find(w, id);

	if (s)
		return s;
	s = xcalloc(1, sizeof(*s));
	s->id = *id;
	TAILQ_INIT(&s->watchers);
	HASH_ADD(by_id, w->subjects, id, sizeof(s->id), s);
	return s;
}

static void watcher_forget(struct watcher *x, struct watch_note *n)
{
	HASH_DELETE(by_lease, x->notes, n);
	free(n);
}

static void watcher_free(struct watcher *x)
{
	struct watch_subject *s = x->subject;

	while (x->notes)
		watcher_forget(x, x->notes);
	if (x->pending)
		TAILQ_REMOVE(&x->watch->pending, x, of_pending);
	TAILQ_REMOVE(&s->watchers, x, of_subject);
	x->request->gone = NULL;
	if (--s->n == 0) {
		HASH_DELETE(by_id, x->watch->subjects, s);
		free(s);
	}
	free(x);
}

/* The peer has gone. */
static void watcher_gone(struct request *r)
{
	watcher_free(r->waiting_for);
	request_free(r);
}

void watch_free(struct watch *w)
{
	if (!w)
		return;
	while (w->subjects) {
		struct watcher *x = TAILQ_FIRST(&w->subjects->watchers);
		struct request *r = x->request;

		watcher_free(x);
		request_free(r);
	}
	event_free(w->tick);
	free(w);
}

/* --- what there is to tell --- */

static void watcher_note(struct watcher *x, const struct lease *l, enum watch_event event,
			 uint64_t generation)
{
	struct watch_note *n;

	HASH_FIND(by_lease, x->notes, l->row.id, strlen(l->row.id), n);
	if (!n && HASH_CNT(by_lease, x->notes) >= WATCH_NOTES_MAX) {
		request_hang_up(x->request); /* it sees what has become of all when it is back */
		return;
	}
	if (!n) {
		n = xcalloc(1, sizeof(*n));
		text_copy(n->lease, sizeof(n->lease), l->row.id);
		text_copy(n->profile, sizeof(n->profile), l->row.profile);
		HASH_ADD_KEYPTR(by_lease, x->notes, n->lease, strlen(n->lease), n);
	}
	n->events |= event;
	n->generation = MAX_OF(n->generation, generation);
	n->ends_at_ms = l->row.ends_at_ms;
	if (!x->pending)
		TAILQ_INSERT_TAIL(&x->watch->pending, x, of_pending);
	x->pending = true;
}

/* The process that may speak of it; of one that is bound to none the one that asked for it. */
static int64_t watch_pid(const struct lease *l)
{
	return l->row.bind == LEASE_PROCESS ? l->row.holder_pid : l->row.pid;
}

static bool watcher_minds(const struct watcher *x, const struct lease *l)
{
	const struct watch_id *id = &x->subject->id;

	if (id->pid == WATCH_WHOLE_UID)
		return id->uid == l->row.uid && strcmp(id->listen, l->row.listen) == 0;
	return id->pid == watch_pid(l) && lease_is_of(l, request_peer(x->request));
}

static void watch_note(const struct watch *w, const struct lease *l, enum watch_event event,
		       uint64_t generation)
{
	const int64_t pids[] = { watch_pid(l), WATCH_WHOLE_UID };

	for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
		const struct watch_subject *s;
		struct watch_id id;
		struct watcher *x;

		watch_id_set(&id, l->row.uid, pids[i], l->row.listen);
		s = watch_find(w, &id);
		if (!s)
			continue;
		TAILQ_FOREACH (x, &s->watchers, of_subject)
			if (watcher_minds(x, l))
				watcher_note(x, l, event, generation);
	}
}

void watch_rotated(struct watch *w, const struct key *k)
{
	if (!w->subjects)
		return;
	for (const struct lease *l = leases_first(w->d->leases); l; l = leases_next(l))
		if (l->key && l->key->shared == k->shared && rotation_behind(l))
			watch_note(w, l, WATCH_ROTATED, k->row.generation);
}

void watch_begun(struct watch *w, const struct lease *l)
{
	uint64_t generation = rotation_behind(l);

	if (generation)
		watch_note(w, l, WATCH_ROTATED, generation);
}

void watch_ended(struct watch *w, const struct lease *l)
{
	if (l->row.state == LEASE_REVOKED)
		watch_note(w, l, WATCH_REVOKED, 0);
}

/* In the last minute of its time, or the last third of a short one. */
static bool watch_is_expiring(const struct watch *w, const struct lease *l, int64_t now)
{
	return l->row.bind == LEASE_TTL && !l->ending &&
	       now >= l->ends_boot_ms - MIN_OF(w->d->config->timing.expiring_ms, l->life_ms / 3);
}

static void watch_arm(struct watch *w)
{
	static const struct timeval tv = { .tv_sec = WATCH_TICK_MS / 1000 };

	w->looked_ms = clock_now().boot_ms;
	(void)evtimer_add(w->tick,
			  &tv); /* fails only without memory, when the process ends anyway */
}

/* Each is told of once: in the tick that finds it so first. */
static void watch_tick(struct watch *w)
{
	int64_t before = w->looked_ms;

	if (!w->subjects)
		return;
	watch_arm(w);
	for (const struct lease *l = leases_first(w->d->leases); l; l = leases_next(l))
		if (watch_is_expiring(w, l, w->looked_ms) && !watch_is_expiring(w, l, before))
			watch_note(w, l, WATCH_EXPIRING, 0);
}

static void watch_on_tick(int fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	watch_tick(userdata);
}

/* --- telling it --- */

static int watcher_pack(const struct watch_note *n, const char *method, const char *number,
			int64_t value, const char *profile, struct buf *b)
{
	struct op_map m = { 0 };
	int r = pack_notification(b, method);

	op_map_text(&m, "lease", n->lease);
	op_map_text(&m, "profile", profile);
	if (number)
		op_map_int(&m, number, value);
	return r < 0 ? r : op_map_end(&m, b);
}

/* What has been put right meanwhile is not told. */
static int watcher_pack_note(const struct watcher *x, const struct watch_note *n, struct buf *b)
{
	const struct lease *l = leases_find(x->watch->d->leases, n->lease);
	bool rotated = n->events & WATCH_ROTATED && l && rotation_behind(l);
	bool expiring = n->events & WATCH_EXPIRING && l && l->row.ends_at_ms <= n->ends_at_ms;
	int r = 0;

	if (n->events & WATCH_REVOKED)
		return watcher_pack(n, "revoked", NULL, 0, NULL, b);
	if (rotated)
		r = watcher_pack(n, "rotated", "generation", (int64_t)n->generation, n->profile, b);
	if (r == 0 && expiring)
		r = watcher_pack(n, "expiring", "ends_at_ms", n->ends_at_ms, NULL, b);
	return r;
}

static void watcher_send(struct watcher *x)
{
	struct buf b = BUF_INIT(WATCH_BATCH_MAX);

	while (x->notes && request_room(x->request) >= WATCH_BATCH_MAX) {
		while (x->notes && b.len + 2 * WATCH_MESSAGE_MAX <= WATCH_BATCH_MAX) {
			if (watcher_pack_note(x, x->notes, &b) < 0)
				abort(); /* there is room; so memory is gone */
			watcher_forget(x, x->notes);
		}
		if (b.len > 0)
			request_notify(x->request, &b);
		buf_deinit(&b);
	}
}

void watch_run(struct watch *w)
{
	struct watcher *x, *next;

	for (x = TAILQ_FIRST(&w->pending); x; x = next) {
		next = TAILQ_NEXT(x, of_pending);
		watcher_send(x);
		if (x->notes)
			continue; /* its peer has yet to take what there is */
		TAILQ_REMOVE(&w->pending, x, of_pending);
		x->pending = false;
	}
}

void watch_stop(struct watch *w)
{
	struct buf b = BUF_INIT(message_reply_limits.bytes);
	const struct watch_subject *s;
	struct op_map m = { 0 };

	op_map_text(&m, "instance", w->d->config->instance);
	op_map_int(&m, "term", (int64_t)w->d->term);
	if (pack_notification(&b, "leader_changed") < 0 || op_map_end(&m, &b) < 0)
		abort(); /* a few bytes: memory is gone */
	for (s = w->subjects; s; s = s->by_id.next) {
		const struct watcher *x;

		TAILQ_FOREACH (x, &s->watchers, of_subject)
			request_notify(x->request, &b);
	}
	buf_deinit(&b);
}

/* --- watch --- */

struct op_watch_params {
	const char *scope;
};

static const struct op_param op_watch_params[] = {
	{ "scope", OP_TEXT, false, offsetof(struct op_watch_params, scope), 1, 16 },
};

/* It hears of what became of its leases before it watched. */
static void watcher_begin(struct watcher *x)
{
	struct watch *w = x->watch;
	int64_t now = clock_now().boot_ms;

	for (const struct lease *l = leases_first(w->d->leases); l; l = leases_next(l)) {
		uint64_t generation;

		if (!watcher_minds(x, l))
			continue;
		generation = rotation_behind(l);
		if (generation)
			watcher_note(x, l, WATCH_ROTATED, generation);
		if (watch_is_expiring(w, l, now))
			watcher_note(x, l, WATCH_EXPIRING, 0);
	}
}

static void watcher_join(struct watch *w, struct watch_subject *s, struct request *r)
{
	struct watcher *x = xcalloc(1, sizeof(*x));
	struct op_map m = { 0 };

	x->watch = w;
	x->subject = s;
	x->request = r;
	r->gone = watcher_gone;
	r->waiting_for = x;
	TAILQ_INSERT_TAIL(&s->watchers, x, of_subject);
	s->n++;
	op_map_int(&m, "term", (int64_t)w->d->term);
	if (op_map_end(&m, request_reply(r)) < 0)
		abort(); /* a few bytes: memory is gone */
	request_answer(r);
	watcher_begin(x);
	if (!evtimer_pending(w->tick, NULL))
		watch_arm(w);
}

/* Of another pid namespace all have the number 0: the start tells them apart. */
static unsigned watch_count(const struct watch_subject *s, const struct peer *peer)
{
	const struct watcher *x;
	unsigned n = 0;

	TAILQ_FOREACH (x, &s->watchers, of_subject)
		n += s->id.pid == WATCH_WHOLE_UID ||
		     request_peer(x->request)->start_time == peer->start_time;
	return n;
}

void op_watch(struct daemon *d, struct request *r)
{
	struct op_watch_params p = { .scope = "process" };
	const struct peer *peer = request_peer(r);
	const struct watch_subject *s;
	struct watch_id id;
	unsigned n;
	bool uid;

	if (!op_read(r, op_watch_params, ARRAY_SIZE(op_watch_params), &p))
		return;
	uid = strcmp(p.scope, "uid") == 0;
	if (!uid && strcmp(p.scope, "process") != 0) {
		request_fail(r, PROTO_INVALID_REQUEST, -1, "scope must be process or uid");
		return;
	}
	watch_id_set(&id, peer->uid, uid ? WATCH_WHOLE_UID : peer->pid, peer->listen);
	s = watch_find(d->watch, &id);
	n = s ? watch_count(s, peer) : 0;
	if (n >= WATCH_PER_SUBJECT) {
		request_fail(
			r, PROTO_LIMIT_EXCEEDED, 1000,
			"%u connections watch this %s already: one is enough for all its leases", n,
			p.scope);
		return;
	}
	if (!request_subscribe(r)) {
		request_fail(r, PROTO_INVALID_REQUEST, -1,
			     "this connection watches or follows already");
		return;
	}
	watcher_join(d->watch, watch_subject(d->watch, &id), r);
}
