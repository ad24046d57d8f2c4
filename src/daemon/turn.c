/* Collects changes and commits them together. Owns the changes; keys and leases are pinned while
 * one names them. */
#include "daemon/turn.h"

#include <errno.h>
#include <string.h>
#include <sys/queue.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/daemon.h"
#include "daemon/fail.h"
#include "daemon/keys.h"
#include "daemon/leases.h"
#include "io/process.h"
#include "io/store.h"
#include "io/store_instance.h"
#include "io/store_rows.h"

#define TURN_KEYS_MAX 2	 /* the new generation and the one before */
#define TURN_AUDIT_MAX 4 /* mint, acquire, rotate, and one in reserve */
#define TURN_ROUNDS_MAX 64
#define TURN_SAY_MS 1000

struct change {
	TAILQ_ENTRY(change) in_turn;
	struct turn *turn;
	change_done_fn done;
	void *userdata;
	struct {
		struct key *key;
		unsigned set;
		struct key_row to;
		const struct secret *secret;
	} keys[TURN_KEYS_MAX];
	size_t n_keys;
	struct lease *lease;
	unsigned lease_set;
	struct lease_row lease_to;
	change_store_fn store;
	struct audit_row *audit[TURN_AUDIT_MAX];
	size_t n_audit;
	bool vital, kept;
};
TAILQ_HEAD(change_list, change);

struct late {
	TAILQ_ENTRY(late) in_turn;
	turn_late_fn fn;
	void *userdata;
};
TAILQ_HEAD(late_list, late);

struct turn {
	struct daemon *d;
	struct change_list changes;
	struct change_list kept; /* could not be stored when their turn ended */
	struct late_list late;
	int said;	    /* the failure that the log heard of last, */
	int64_t said_at_ms; /* and when (boot time); */
	pid_t said_locker;  /* and who, as it heard, has held the state's lock meanwhile */
};

struct turn *turn_new(struct daemon *d)
{
	struct turn *t = xcalloc(1, sizeof(*t));

	t->d = d;
	TAILQ_INIT(&t->changes);
	TAILQ_INIT(&t->kept);
	TAILQ_INIT(&t->late);
	return t;
}

static void change_free(struct change *c)
{
	for (size_t i = 0; i < c->n_keys; i++)
		key_unpin(c->keys[i].key);
	if (c->lease)
		lease_unpin(c->lease);
	for (size_t i = 0; i < c->n_audit; i++)
		free(c->audit[i]);
	free(c);
}

void turn_free(struct turn *t)
{
	struct change *c;
	struct late *l;

	if (!t)
		return;
	TAILQ_CONCAT(&t->changes, &t->kept, in_turn);
	while ((c = TAILQ_FIRST(&t->changes))) {
		TAILQ_REMOVE(&t->changes, c, in_turn);
		change_free(c);
	}
	while ((l = TAILQ_FIRST(&t->late))) {
		TAILQ_REMOVE(&t->late, l, in_turn);
		free(l);
	}
	free(t);
}

struct change *change_new(struct turn *t, change_done_fn done, void *userdata)
{
	struct change *c = xcalloc(1, sizeof(*c));

	c->turn = t;
	c->done = done;
	c->userdata = userdata;
	return c;
}

void change_key(struct change *c, struct key *key, unsigned set, const struct key_row *to)
{
	if (c->n_keys == TURN_KEYS_MAX)
		abort(); /* a change names a key and its predecessor, never more */
	key_pin(key);
	c->keys[c->n_keys].key = key;
	c->keys[c->n_keys].set = set;
	c->keys[c->n_keys++].to = *to;
}

void change_key_secret(struct change *c, const struct secret *secret)
{
	c->keys[c->n_keys - 1].secret = secret;
}

void change_lease(struct change *c, struct lease *lease, unsigned set, const struct lease_row *to)
{
	lease_pin(lease);
	c->lease = lease;
	c->lease_set = set;
	c->lease_to = *to;
}

void change_store(struct change *c, change_store_fn fn)
{
	c->store = fn;
}

struct audit_row *change_audit(struct change *c, const char *event, const char *outcome,
			       const struct peer *peer)
{
	struct audit_row *row = xcalloc(1, sizeof(*row));
	struct instant now = clock_now();

	if (c->n_audit == TURN_AUDIT_MAX)
		abort();
	audit_init(row);
	row->wall_ms = now.wall_ms;
	row->boot_ms = now.boot_ms;
	row->term = c->turn->d->term;
	text_copy(row->instance, sizeof(row->instance), c->turn->d->config->instance);
	text_copy(row->event, sizeof(row->event), event);
	text_copy(row->outcome, sizeof(row->outcome), outcome);
	if (peer)
		audit_set_peer(row, peer);
	c->audit[c->n_audit++] = row;
	return row;
}

void change_vital(struct change *c)
{
	c->vital = true;
}

void change_kept(struct change *c)
{
	c->kept = true;
}

void change_submit(struct change *c)
{
	for (size_t i = 0; i < c->n_audit; i++)
		audit_clean(c->audit[i]);
	TAILQ_INSERT_TAIL(&c->turn->changes, c, in_turn);
}

void turn_late(struct turn *t, turn_late_fn fn, void *userdata)
{
	struct late *l = xcalloc(1, sizeof(*l));

	l->fn = fn;
	l->userdata = userdata;
	TAILQ_INSERT_TAIL(&t->late, l, in_turn);
}

void turn_late_cancel(struct turn *t, const void *userdata)
{
	struct late *l, *next;

	for (l = TAILQ_FIRST(&t->late); l; l = next) {
		next = TAILQ_NEXT(l, in_turn);
		if (l->userdata != userdata)
			continue;
		TAILQ_REMOVE(&t->late, l, in_turn);
		free(l);
	}
}

static void turn_run_late(struct turn *t)
{
	struct late *l;

	while ((l = TAILQ_FIRST(&t->late))) {
		TAILQ_REMOVE(&t->late, l, in_turn);
		l->fn(l->userdata);
		free(l);
	}
}

/* Several changes of one turn may name one key: each builds on what the one before it made. */
static int turn_put_keys(struct turn *t, struct change *c)
{
	int r = 0;

	for (size_t i = 0; i < c->n_keys && r == 0; i++) {
		struct key_row *row = key_pending(c->keys[i].key);

		key_row_set(row, c->keys[i].set, &c->keys[i].to);
		row->term = t->d->term;
		r = store_put_key(t->d->store, row, c->keys[i].secret);
	}
	return r;
}

static int turn_put(struct turn *t, struct change *c)
{
	int r = turn_put_keys(t, c);

	if (r == 0 && c->lease) {
		struct lease_row *row = lease_pending(c->lease);

		lease_row_set(row, c->lease_set, &c->lease_to);
		row->term = t->d->term;
		r = store_put_lease(t->d->store, row);
	}
	if (r == 0 && c->store)
		r = c->store(t->d->store, c->userdata);
	for (size_t i = 0; i < c->n_audit && r == 0; i++)
		r = store_append_audit(t->d->store, c->audit[i]);
	return r;
}

static int turn_commit(struct turn *t, struct change_list *changes)
{
	struct change *c;
	int r = store_begin(t->d->store);

	if (r != 0)
		return r;
	TAILQ_FOREACH (c, changes, in_turn) {
		r = turn_put(t, c);
		if (r != 0) {
			store_rollback(t->d->store);
			return r;
		}
	}
	FAIL_POINT("turn.before_commit");
	r = store_commit(t->d->store);
	FAIL_POINT("turn.after_commit");
	return r;
}

const char *turn_reason(int outcome)
{
	if (outcome < 0)
		return strerrordesc_np(-outcome);
	switch (outcome) {
	case STORE_E_FULL:
		return "the disk of the broker's state is full; make room, and service resumes by itself";
	case STORE_E_READONLY:
		return "the broker's state is read-only; make it writable, and service resumes by itself";
	case STORE_E_BUSY:
		return "another process holds the lock of the broker's state; end it (the broker's log may name it), and service resumes by itself";
	default:
		return store_outcome_text((enum store_outcome)outcome);
	}
}

const char *turn_why(int outcome, const char *what, char ret[TURN_WHY_SIZE])
{
	(void)snprintf(ret, TURN_WHY_SIZE, "%s cannot be recorded now: %s", what,
		       turn_reason(outcome));
	return ret;
}

/* While it is known: by the time somebody looks it may be over. */
static void turn_say_locker(struct turn *t)
{
	pid_t pid = store_lock_holder(t->d->store);
	char name[PROCESS_NAME_SIZE];

	if (pid == 0 || pid == t->said_locker)
		return;
	t->said_locker = pid;
	process_name(pid, name);
	log_error("pid %d (%s) holds the lock of the state", (int)pid, *name ? name : "?");
}

/* Once a second at most: every turn may fail alike. */
static void turn_say(struct turn *t, int outcome)
{
	int64_t now = clock_now().boot_ms;

	if (now - t->said_at_ms < TURN_SAY_MS && (outcome == t->said || t->said == 0))
		return;
	t->said_at_ms = now;
	t->said = outcome;
	log_error("no key is handed out: what leaves cannot be recorded now: %s",
		  turn_reason(outcome));
	if (outcome == STORE_E_BUSY)
		turn_say_locker(t);
}

void turn_say_over(struct turn *t, int outcome)
{
	if (t->said == 0 || (outcome != 0 && outcome != t->said) || store_is_short(t->d->store))
		return;
	t->said = 0;
	t->said_locker = 0;
	log_info("what leaves can be recorded again: keys are handed out");
}

/* Memory follows the store: the objects take over what was committed, or forget it. */
static void turn_settle(struct change *c, int outcome)
{
	for (size_t i = 0; i < c->n_keys; i++)
		key_settle(c->keys[i].key, outcome == 0);
	if (c->lease)
		lease_settle(c->lease, outcome == 0);
}

static bool change_is_vital(const struct change *c)
{
	bool vital = c->vital || (c->lease && c->lease_set & LEASE_SET_STATE);

	for (size_t i = 0; i < c->n_keys; i++) {
		enum key_state to = c->keys[i].to.state;

		vital |= (c->keys[i].set & KEY_SET_DELETE_SOONER) != 0;
		vital |= c->keys[i].set & KEY_SET_STATE && to != KEY_INTENT && to != KEY_LIVE;
	}
	return vital;
}

static void turn_keep_vital(struct change_list *changes, struct change_list *refused)
{
	struct change *c, *next;

	for (c = TAILQ_FIRST(changes); c; c = next) {
		next = TAILQ_NEXT(c, in_turn);
		if (change_is_vital(c))
			continue;
		TAILQ_REMOVE(changes, c, in_turn);
		TAILQ_INSERT_TAIL(refused, c, in_turn);
	}
}

static void turn_settle_all(struct change_list *changes, int outcome)
{
	struct change *c;

	TAILQ_FOREACH (c, changes, in_turn)
		turn_settle(c, outcome);
}

static void turn_finish(struct turn *t, struct change_list *changes, int outcome)
{
	struct change *c;

	while ((c = TAILQ_FIRST(changes))) {
		TAILQ_REMOVE(changes, c, in_turn);
		if (c->kept && outcome != 0) {
			TAILQ_INSERT_TAIL(&t->kept, c, in_turn);
			continue;
		}
		/* if the process is to end no reply may leave */
		if (c->done && !store_outcome_is_final(outcome))
			c->done(c->userdata, outcome);
		change_free(c);
	}
}

/* A full disk: what the reserve is kept for is tried once more, alone. */
static int turn_commit_vital(struct turn *t, struct change_list *changes,
			     struct change_list *refused)
{
	turn_settle_all(changes, STORE_E_FULL);
	turn_keep_vital(changes, refused);
	return TAILQ_EMPTY(changes) ? 0 : turn_commit(t, changes);
}

static int turn_round(struct turn *t)
{
	struct change_list changes = TAILQ_HEAD_INITIALIZER(changes);
	struct change_list refused = TAILQ_HEAD_INITIALIZER(refused);
	int r = STORE_E_FULL;

	TAILQ_CONCAT(&changes, &t->kept, in_turn); /* first what happened first */
	TAILQ_CONCAT(&changes, &t->changes, in_turn);
	if (!store_is_short(t->d->store))
		r = turn_commit(t, &changes);
	if (r == STORE_E_FULL)
		r = turn_commit_vital(t, &changes, &refused);
	if (r != 0 || !TAILQ_EMPTY(&refused))
		turn_say(t, r != 0 ? r : STORE_E_FULL);
	else
		turn_say_over(t, 0);
	turn_settle_all(&changes, r);
	turn_finish(t, &changes, r);
	turn_finish(t, &refused, store_outcome_is_final(r) ? r : STORE_E_FULL);
	return store_outcome_is_final(r) ? r : 0;
}

bool turn_retry(struct turn *t)
{
	bool any = !TAILQ_EMPTY(&t->kept);

	TAILQ_CONCAT(&t->kept, &t->changes, in_turn);
	TAILQ_CONCAT(&t->changes, &t->kept, in_turn);
	return any;
}

bool turn_is_pending(const struct turn *t)
{
	return !TAILQ_EMPTY(&t->changes) || !TAILQ_EMPTY(&t->late);
}

int turn_end(struct turn *t)
{
	int r = 0;

	/* What a commit sets going may have to be stored at once; what goes on longer waits for the
	 * next turn. */
	for (int rounds = 0; r == 0 && rounds < TURN_ROUNDS_MAX; rounds++) {
		turn_run_late(t);
		if (TAILQ_EMPTY(&t->changes))
			return 0;
		r = turn_round(t);
	}
	return r;
}
