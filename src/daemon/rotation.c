/*
 * Rotations from the leases' side: when one is due, who is behind, who has acknowledged. What a
 * lease has acknowledged is kept in memory alone: who leads next takes its key for acknowledged and
 * gives the older generations their whole grace.
 */
#include "daemon/rotation.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "daemon/daemon.h"
#include "daemon/key_work.h"
#include "daemon/keys.h"
#include "daemon/leases.h"
#include "daemon/op.h"
#include "daemon/op_map.h"
#include "daemon/shared.h"
#include "daemon/turn.h"
#include "daemon/watch.h"

/* A thousand acknowledgements are one look at the older generations. */
#define ROTATION_LOOK_MS 20

/* A twentieth more or less, so that the profiles of many hosts don't rotate together; each key has
 * its own share, which a restart does not change. */
static int64_t rotation_jitter_ms(const struct key *k, int64_t every_ms)
{
	unsigned share = 0x8000;

	(void)sscanf(k->row.hash, "%4x", &share); /* it is hex; "" is the middle */
	return every_ms / 20 * ((int64_t)share - 0x8000) / 0x8000;
}

bool rotation_is_outdated(const struct key *k, const struct profile *p)
{
	char now[KEY_SETTINGS_SIZE];

	if (!k->row.settings[0])
		return false;
	pool_settings(p, now);
	return strcmp(k->row.settings, now) != 0;
}

int64_t rotation_in_ms(const struct shared *s, const struct profile *p)
{
	int64_t every = p->rotate_every_ms;

	if (rotation_is_outdated(s->current, p))
		return 0;
	if (every == 0)
		return INT64_MAX;
	return s->current->row.changed_at_ms + every + rotation_jitter_ms(s->current, every) -
	       clock_now().wall_ms;
}

uint64_t rotation_behind(const struct lease *l)
{
	const struct shared *s = l->key && l->row.refreshable && !l->ending ? l->key->shared : NULL;

	return s && s->current && s->current != l->key ? s->current->row.generation : 0;
}

static bool rotation_may_use(const struct lease *l, const struct key *k)
{
	return l->row.refreshable && !l->ending && l->key && l->key->shared == k->shared &&
	       l->acked <= k->row.generation && l->key->row.generation >= k->row.generation;
}

unsigned rotation_unacked(const struct key *k)
{
	unsigned n = 0;

	for (const struct lease *l = leases_first(k->d->leases); l; l = leases_next(l))
		n += rotation_may_use(l, k);
	return n;
}

/* Of a key that was not made here nobody knows who has it. */
static bool rotation_has_successor(const struct key *k)
{
	const struct key *current = k->shared ? k->shared->current : NULL;
	bool made_here = k->row.source == KEY_MINTED || k->row.source == KEY_SERVER_CHOSEN;

	return k->row.state == KEY_RETIRING && made_here && current &&
	       current->row.generation > k->row.generation;
}

bool rotation_is_over(const struct key *k)
{
	if (!rotation_has_successor(k) || k->n_leases > 0 || k->on_the_way > 0)
		return false;
	for (const struct lease *l = leases_first(k->d->leases); l; l = leases_next(l))
		if (rotation_may_use(l, k))
			return false;
	return true;
}

/* Of this lease's older generations one may be over. */
static void rotation_look(const struct lease *l, uint64_t from)
{
	struct shared *s = l->key ? l->key->shared : NULL;

	if (!s || from >= l->key->row.generation)
		return;
	for (struct key *k = keys_first(s->d->keys); k; k = keys_next(k))
		if (k->shared == s && k->row.state == KEY_RETIRING)
			key_drive_in(k, ROTATION_LOOK_MS);
}

void rotation_lease_ended(const struct lease *l)
{
	watch_ended(l->d->watch, l);
	rotation_look(l, l->acked);
}

void rotation_take_old(struct shared *s)
{
	struct key *k, *next;

	for (k = keys_first(s->d->keys); k; k = next) {
		next = keys_next(k);
		if (k->shared == s && k->row.state == KEY_RETIRING && !k->dead)
			key_kill(k, "replaced at once");
	}
}

/* --- ack --- */

struct op_ack_params {
	const char *lease;
	int64_t generation;
};

static const struct op_param op_ack_params[] = {
	{ "lease", OP_TEXT, true, offsetof(struct op_ack_params, lease), 1, ID_SIZE - 1 },
	{ "generation", OP_INT, true, offsetof(struct op_ack_params, generation), 1, INT64_MAX },
};

/* While it is being written down. */
struct op_acking {
	struct request *request;
	struct lease *lease; /* pinned */
	uint64_t generation;
};

static void op_ack_reply(struct request *r, const struct lease *l, uint64_t generation)
{
	struct op_map m = { 0 };

	op_map_text(&m, "lease", l->row.id);
	op_map_int(&m, "generation", (int64_t)generation);
	request_send(r, op_map_end(&m, request_reply(r)));
}

static void op_acked(void *userdata, int outcome)
{
	struct op_acking *a = userdata;
	struct lease *l = a->lease;
	char why[TURN_WHY_SIZE];
	uint64_t from = l->acked;

	if (outcome != 0) {
		request_fail(a->request, PROTO_AUDIT_UNAVAILABLE, 1000, "%s",
			     turn_why(outcome, "the acknowledgement", why));
	} else {
		l->acked = MAX_OF(l->acked, a->generation);
		op_ack_reply(a->request, l, a->generation);
		rotation_look(l, from);
	}
	lease_unpin(l);
	free(a);
}

static void op_ack_store(struct daemon *d, struct request *r, struct lease *l, uint64_t generation)
{
	struct op_acking *a = xcalloc(1, sizeof(*a));
	struct change *c = change_new(d->turn, op_acked, a);
	struct audit_row *row = change_audit(c, "ack", "ok", request_peer(r));

	*a = (struct op_acking){ .request = r, .lease = l, .generation = generation };
	lease_pin(l);
	key_describe(l->key, row);
	text_copy(row->lease, sizeof(row->lease), l->row.id);
	text_copy(row->rule, sizeof(row->rule), l->row.rule);
	(void)snprintf(row->detail, sizeof(row->detail), "generation %llu",
		       (unsigned long long)generation);
	change_submit(c);
}

void op_ack(struct daemon *d, struct request *r)
{
	struct op_ack_params p = { 0 };
	uint64_t generation;
	struct lease *l;

	if (!op_read(r, op_ack_params, ARRAY_SIZE(op_ack_params), &p))
		return;
	l = op_lease_of_peer(d, r, p.lease);
	if (!l)
		return;
	generation = (uint64_t)p.generation;
	if (!l->key || !l->key->shared || !l->row.refreshable)
		request_fail(r, PROTO_INVALID_REQUEST, -1,
			     "there is nothing to acknowledge: this lease has one key to its end");
	else if (generation > l->key->row.generation)
		request_fail(
			r, PROTO_INVALID_REQUEST, -1,
			"this lease has generation %llu so far: `acquire` with it hands out the newest",
			(unsigned long long)l->key->row.generation);
	else if (generation <= l->acked)
		op_ack_reply(r, l, generation); /* a repeat: it is on record */
	else
		op_ack_store(d, r, l, generation);
}
