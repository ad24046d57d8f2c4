/* The retiring keys of a profile, for people who wonder why a key is still there. */
#include "daemon/op_retiring.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "daemon/daemon.h"
#include "daemon/keys.h"
#include "daemon/leases.h"
#include "daemon/op.h"
#include "daemon/op_map.h"
#include "daemon/rotation.h"
#include "daemon/shared.h"

#define OP_RETIRING_HOLDERS 4 /* of one key */

void op_retiring_name(const struct key *k, struct op_map *m)
{
	char hash[9];

	op_short_hash(k->row.hash, hash);
	op_map_text(m, "alias", k->row.alias);
	op_map_int(m, "generation", (int64_t)k->row.generation);
	op_map_text(m, "key_hash", hash);
}

static int op_retiring_holder(const struct lease *l, struct buf *b)
{
	struct op_map m = { 0 };

	op_map_text(&m, "lease", l->row.id);
	op_map_int(&m, "uid", l->row.uid);
	op_map_text(&m, "bind", lease_bind_name(l->row.bind));
	op_map_int(&m, "pid", l->row.bind == LEASE_PROCESS ? l->row.holder_pid : l->row.pid);
	return op_map_end(&m, b);
}

static bool op_retiring_is_held_by(const struct key *k, const struct lease *l)
{
	return l->key == k && !l->row.refreshable && !l->ending;
}

static void op_retiring_holders(const struct key *k, struct op_retiring_room *room,
				struct op_map *m)
{
	size_t n = MIN_OF(MIN_OF((size_t)k->n_fixed, room->holders), (size_t)OP_RETIRING_HOLDERS);

	op_map_time(m, "held_until_ms", k->row.changed_at_ms + k->d->config->timing.fixed_max_ms);
	room->holders -= n;
	op_map_name(m, "held_by");
	m->r = m->r < 0 ? m->r : pack_array(&m->pairs, n);
	for (const struct lease *l = leases_first(k->d->leases); l && n > 0; l = leases_next(l)) {
		if (m->r < 0 || !op_retiring_is_held_by(k, l))
			continue;
		m->r = op_retiring_holder(l, &m->pairs);
		n--;
	}
}

static int op_retiring_one(const struct key *k, struct op_retiring_room *room, struct buf *b)
{
	struct op_map m = { 0 };

	op_retiring_name(k, &m);
	op_map_int(&m, "leases", k->n_leases);
	op_map_int(&m, "fixed", k->n_fixed);
	op_map_int(&m, "unacked", rotation_unacked(k));
	op_map_time(&m, "delete_at_ms", k->row.delete_at_ms);
	if (k->n_fixed > 0)
		op_retiring_holders(k, room, &m);
	return op_map_end(&m, b);
}

static int op_retiring_compare(const void *a, const void *b)
{
	uint64_t x = (*(const struct key *const *)a)->row.generation;
	uint64_t y = (*(const struct key *const *)b)->row.generation;

	return (x > y) - (x < y);
}

static size_t op_retiring_sorted(const struct daemon *d, const char *profile,
				 const struct key ***ret)
{
	const struct key **all = NULL;
	size_t n = 0;

	for (const struct key *k = keys_first(d->keys); k; k = keys_next(k)) {
		if (k->row.state != KEY_RETIRING || k->row.mode != PROFILE_SHARED ||
		    strcmp(k->row.profile, profile) != 0)
			continue;
		all = xrealloc(all, n + 1, sizeof(const struct key *));
		all[n++] = k;
	}
	if (n > 0)
		qsort(all, n, sizeof(const struct key *), op_retiring_compare);
	*ret = all;
	return n;
}

void op_retiring_pack(const struct daemon *d, const char *profile, struct op_retiring_room *room,
		      struct op_map *m)
{
	const struct key **all;
	size_t n = op_retiring_sorted(d, profile, &all);
	size_t shown = MIN_OF(n, room->keys);

	room->keys -= shown;
	op_map_name(m, "retiring");
	m->r = m->r < 0 ? m->r : pack_array(&m->pairs, shown);
	for (size_t i = 0; i < shown && m->r == 0; i++)
		m->r = op_retiring_one(all[i], room, &m->pairs);
	if (shown < n)
		op_map_int(m, "retiring_more", (int64_t)(n - shown));
	free(all);
}

void op_retiring_sum(const struct shared *s, struct op_map *m)
{
	struct op_map older = { 0 };
	int64_t keys = 0, leases = 0, fixed = 0;

	for (const struct key *k = keys_first(s->d->keys); k; k = keys_next(k)) {
		if (k->shared != s || k->row.state != KEY_RETIRING || k->dead)
			continue;
		keys++;
		leases += k->n_leases;
		fixed += k->n_fixed;
	}
	op_map_int(&older, "keys", keys);
	op_map_int(&older, "leases", leases);
	op_map_int(&older, "fixed", fixed);
	op_map_map(m, "older", &older);
}
