/* Collects changes and commits them together. Owns the changes; keys and leases are pinned while
 * one names them. */
#include "daemon/turn.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "daemon/daemon.h"
#include "daemon/fail.h"
#include "daemon/keys.h"
#include "daemon/leases.h"
#include "io/store.h"
#include "io/store_rows.h"

#define TURN_KEYS_MAX 2	 /* the new generation and the one before */
#define TURN_AUDIT_MAX 4 /* mint, acquire, rotate, and one in reserve */
#define TURN_ROUNDS_MAX 64

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
	struct audit_row *audit[TURN_AUDIT_MAX];
	size_t n_audit;
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
	struct late_list late;
};

struct turn *turn_new(struct daemon *d)
{
	struct turn *t = xcalloc(1, sizeof(*t));

	t->d = d;
	TAILQ_INIT(&t->changes);
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
	(void)snprintf(row->instance, sizeof(row->instance), "%s", c->turn->d->config->instance);
	(void)snprintf(row->event, sizeof(row->event), "%s", event);
	(void)snprintf(row->outcome, sizeof(row->outcome), "%s", outcome);
	if (peer)
		audit_set_peer(row, peer);
	c->audit[c->n_audit++] = row;
	return row;
}

void change_submit(struct change *c)
{
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

/* Memory follows the store: the objects take over what was committed, or forget it. */
static void turn_settle(struct change *c, int outcome)
{
	for (size_t i = 0; i < c->n_keys; i++)
		key_settle(c->keys[i].key, outcome == 0);
	if (c->lease)
		lease_settle(c->lease, outcome == 0);
}

static int turn_round(struct turn *t)
{
	struct change_list changes = TAILQ_HEAD_INITIALIZER(changes);
	struct change *c;
	int r;

	TAILQ_CONCAT(&changes, &t->changes, in_turn);
	r = turn_commit(t, &changes);
	if (r != 0)
		log_error("nothing can be recorded now (%s): no key is handed out until it can",
			  r < 0 ? strerrordesc_np(-r) : store_outcome_text((enum store_outcome)r));
	TAILQ_FOREACH (c, &changes, in_turn)
		turn_settle(c, r);
	if (r == -EIO || r == STORE_E_FENCED)
		c = NULL; /* the process ends: no reply may leave */
	while ((c = TAILQ_FIRST(&changes))) {
		TAILQ_REMOVE(&changes, c, in_turn);
		if (c->done && r != -EIO && r != STORE_E_FENCED)
			c->done(c->userdata, r);
		change_free(c);
	}
	return r == -EIO || r == STORE_E_FENCED ? r : 0;
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
