/*
 * `audit_prune`: takes the oldest rows of the audit away, some hundred in a transaction, so that
 * the loop goes on serving. Before the first and after the last there is a row of the audit that
 * says so; a crash in between leaves a chain that verifies.
 */
#include "daemon/op_audit_prune.h"

#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "daemon/daemon.h"
#include "daemon/fail.h"
#include "daemon/op.h"
#include "daemon/op_map.h"
#include "daemon/turn.h"
#include "io/store.h"
#include "io/store_audit_prune.h"
#include "io/store_rows.h"

#define PRUNE_CHUNK_ROWS 512
#define PRUNE_CALL_ROWS 50000 /* in one call, so that its reply comes in time */
#define PRUNE_PAUSE_MS 4      /* about as long as a chunk takes: half of the time is for others */
#define PRUNE_BUSY_MS 100
#define PRUNE_BUSY_MAX 50

struct audit_prune {
	struct daemon *d;
	struct event *timer;
	struct request *request; /* NULL: none is under way */
	struct store_audit_prune what;
	struct audit_checkpoint checkpoint;
	uint64_t n_removed;
	int n_busy;
	bool more;
	int failure; /* a STORE_E_* or -errno that ended it; while that is being written down */
};

static void prune_on_timer(int fd, short what, void *userdata);

struct audit_prune *audit_prune_new(struct daemon *d)
{
	struct audit_prune *prune = xcalloc(1, sizeof(*prune));

	prune->d = d;
	prune->timer = evtimer_new(d->base, prune_on_timer, prune);
	if (!prune->timer)
		abort();
	return prune;
}

void audit_prune_free(struct audit_prune *prune)
{
	if (!prune)
		return;
	event_free(prune->timer);
	free(prune);
}

static void prune_after(struct audit_prune *prune, int ms)
{
	const struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	(void)event_add(prune->timer, &tv); /* fails only without memory */
}

/* --- the end --- */

static void prune_stored(void *userdata, int outcome)
{
	struct audit_prune *prune = userdata;
	struct request *r = TAKE(prune->request);
	struct op_map m = { 0 };

	if (outcome != 0) {
		request_fail(r, PROTO_AUDIT_UNAVAILABLE, 1000,
			     "%" PRIu64 " rows were pruned, and that cannot be recorded now: %s",
			     prune->n_removed, turn_reason(outcome));
		return;
	}
	op_map_int(&m, "removed", (int64_t)prune->n_removed);
	op_map_int(&m, "sequence", (int64_t)prune->checkpoint.sequence);
	op_map_bool(&m, "more", prune->more);
	request_send(r, op_map_end(&m, request_reply(r)));
}

/* The row that says what was done. */
static void prune_note(struct audit_prune *prune, change_done_fn done, const char *outcome)
{
	struct change *c = change_new(prune->d->turn, done, prune);
	struct audit_row *a = change_audit(c, "audit_prune", outcome, request_peer(prune->request));

	(void)snprintf(a->detail, sizeof(a->detail), "%" PRIu64 " rows removed, now up to %" PRIu64,
		       prune->n_removed, prune->checkpoint.sequence);
	change_submit(c);
}

/* It is on record, or cannot be: what is told is the same. */
static void prune_failed(void *userdata, int outcome _unused_)
{
	struct audit_prune *prune = userdata;
	bool broken = prune->failure == STORE_E_BROKEN;

	request_fail(TAKE(prune->request), broken ? PROTO_INTERNAL : PROTO_AUDIT_UNAVAILABLE,
		     broken ? -1 : 1000, "%" PRIu64 " rows were pruned, then: %s", prune->n_removed,
		     turn_reason(prune->failure));
}

static void prune_fail(struct audit_prune *prune, int r)
{
	prune->failure = r;
	log_error("the prune of the audit ended after %" PRIu64 " rows: %s", prune->n_removed,
		  turn_reason(r));
	prune_note(prune, prune_failed, "failed");
}

void audit_prune_stop(struct daemon *d)
{
	struct audit_prune *prune = d->prune;

	if (!prune->request || !evtimer_pending(prune->timer, NULL))
		return;
	(void)event_del(prune->timer);
	prune_note(prune, NULL, "stopped");
	request_fail(TAKE(prune->request), PROTO_NOT_LEADER, 100,
		     "this broker is stopping; ask again");
}

/* --- the chunks --- */

/* In a transaction of its own: one that fails fails nobody else's turn. */
static int prune_chunk(struct audit_prune *prune, size_t *ret_removed)
{
	struct store *s = prune->d->store;
	struct audit_checkpoint checkpoint;
	int r = store_begin(s);

	if (r != 0)
		return r;
	r = store_audit_prune(s, &prune->what, &checkpoint, ret_removed);
	FAIL_POINT("prune.before_commit");
	if (r == 0)
		r = store_commit(s);
	else
		store_rollback(s);
	FAIL_POINT("prune.after_commit");
	if (r == 0)
		prune->checkpoint = checkpoint;
	return r;
}

static void prune_step(struct audit_prune *prune)
{
	size_t n = 0;
	int r = prune_chunk(prune, &n);

	daemon_mind_store(prune->d, r);
	if (prune->d->failed)
		return;
	if (r == STORE_E_BUSY && ++prune->n_busy < PRUNE_BUSY_MAX) {
		prune_after(prune, PRUNE_BUSY_MS);
		return;
	}
	if (r != 0) {
		prune_fail(prune, r);
		return;
	}
	prune->n_busy = 0;
	prune->n_removed += n;
	/* else the log would grow by all that is removed, on a disk that may be short of room */
	daemon_mind_store(prune->d, store_checkpoint(prune->d->store));
	prune->more = n == prune->what.limit;
	if (prune->more && prune->n_removed < PRUNE_CALL_ROWS)
		prune_after(prune, PRUNE_PAUSE_MS);
	else
		prune_note(prune, prune_stored, "ok");
}

static void prune_on_timer(int fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	prune_step(userdata);
}

/* --- the beginning --- */

static void prune_begun(void *userdata, int outcome)
{
	struct audit_prune *prune = userdata;
	char why[TURN_WHY_SIZE];

	if (outcome == 0)
		prune_after(prune, 0);
	else
		request_fail(TAKE(prune->request), PROTO_AUDIT_UNAVAILABLE, 1000, "%s",
			     turn_why(outcome, "nothing is pruned, since that", why));
}

struct op_prune_params {
	int64_t before_ms;
	bool not_exported;
};

static const struct op_param op_prune_params[] = {
	{ "before_ms", OP_INT, true, offsetof(struct op_prune_params, before_ms), 1, INT64_MAX },
	{ "not_exported", OP_BOOL, false, offsetof(struct op_prune_params, not_exported), 0, 0 },
};

/* Would rows go that no export has? The newest one never goes. */
static bool prune_is_covered(const struct daemon *d, const struct op_prune_params *p,
			     uint64_t exported, uint64_t head)
{
	int64_t wall_ms;

	if (p->not_exported || exported + 1 >= head)
		return true;
	return store_audit_wall(d->store, exported + 1, &wall_ms) != 0 || wall_ms >= p->before_ms;
}

static void prune_start(struct audit_prune *prune, const struct op_prune_params *p)
{
	struct change *c = change_new(prune->d->turn, prune_begun, prune);
	struct audit_row *a = change_audit(c, "audit_prune", "begun", request_peer(prune->request));
	time_t seconds = (time_t)(p->before_ms / 1000);
	char when[32] = "a time to come";
	struct tm tm;

	if (p->before_ms < clock_now().wall_ms && gmtime_r(&seconds, &tm))
		(void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	(void)snprintf(a->detail, sizeof(a->detail), "rows before %s, %" PRIu64 " at the most%s",
		       when, prune->what.through, p->not_exported ? ", exported or not" : "");
	change_submit(c);
}

void op_audit_prune(struct daemon *d, struct request *r)
{
	struct audit_prune *prune = d->prune;
	struct op_prune_params p = { 0 };
	uint64_t head, pruned, exported;
	uint8_t hash[HASH_SIZE];

	if (!op_read(r, op_prune_params, ARRAY_SIZE(op_prune_params), &p) ||
	    !op_audit_bounds(d, r, &pruned, &exported))
		return;
	store_audit_head(d->store, &head, hash);
	if (prune->request) {
		request_fail(r, PROTO_LIMIT_EXCEEDED, 1000, "another prune is under way");
		return;
	}
	if (!prune_is_covered(d, &p, exported, head)) {
		request_fail(r, PROTO_INVALID_REQUEST, -1,
			     "rows from %" PRIu64 " on were not exported: `keybroker audit export` "
			     "first, or --not-exported",
			     exported + 1);
		return;
	}
	prune->request = r;
	prune->n_removed = 0;
	prune->n_busy = 0;
	prune->checkpoint = (struct audit_checkpoint){ .sequence = pruned };
	prune->what = (struct store_audit_prune){ .before_ms = p.before_ms,
						  .through = p.not_exported ? head : exported,
						  .limit = PRUNE_CHUNK_ROWS };
	prune_start(prune, &p);
}
