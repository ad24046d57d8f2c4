/* `leases`: the active leases, in pages. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "daemon/daemon.h"
#include "daemon/keys.h"
#include "daemon/leases.h"
#include "daemon/op.h"
#include "daemon/op_map.h"

struct op_leases_params {
	const char *after;
	int64_t limit;
};

static const struct op_param op_leases_params[] = {
	{ "after", OP_TEXT, false, offsetof(struct op_leases_params, after), 0, ID_SIZE - 1 },
	{ "limit", OP_INT, false, offsetof(struct op_leases_params, limit), 1, OP_LIST_MAX },
};

static int op_leases_one(const struct lease *l, struct buf *b)
{
	struct op_map m = { 0 };
	const struct {
		const char *name;
		int64_t value;
	} numbers[] = { { "uid", l->row.uid },
			{ "gid", l->row.gid },
			{ "pid", l->row.bind == LEASE_TTL ? l->row.pid : l->row.holder_pid },
			{ "granted_at_ms", l->row.granted_at_ms },
			{ "generation", l->key ? (int64_t)l->key->row.generation : 0 } };
	char hash[9] = "";

	if (l->key)
		op_short_hash(l->key->row.hash, hash);
	op_map_text(&m, "lease", l->row.id);
	op_map_text(&m, "profile", l->row.profile);
	op_map_text(&m, "mode", l->key ? profile_mode_name(l->key->row.mode) : "static");
	op_map_text(&m, "bind", lease_bind_name(l->row.bind));
	op_map_bool(&m, "refreshable", l->row.refreshable);
	op_map_text(&m, "rule", l->row.rule);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		op_map_int(&m, numbers[i].name, numbers[i].value);
	op_map_time(&m, "ends_at_ms", l->row.ends_at_ms);
	op_map_text(&m, "key_hash", hash);
	return op_map_end(&m, b);
}

static int op_leases_compare(const void *a, const void *b)
{
	return strcmp((*(const struct lease *const *)a)->row.id,
		      (*(const struct lease *const *)b)->row.id);
}

/* All leases after `after`, by id: the pages stay right whatever comes and goes between them. */
static size_t op_leases_sorted(const struct daemon *d, const char *after, const struct lease ***ret)
{
	const struct lease **all =
		xcalloc(leases_count(d->leases) + 1, sizeof(const struct lease *));
	size_t n = 0;

	for (const struct lease *l = leases_first(d->leases); l; l = leases_next(l))
		if (strcmp(l->row.id, after) > 0)
			all[n++] = l;
	qsort(all, n, sizeof(const struct lease *), op_leases_compare);
	*ret = all;
	return n;
}

void op_leases(struct daemon *d, struct request *r)
{
	struct op_leases_params p = { .after = "", .limit = OP_LIST_DEFAULT };
	const struct lease **all = NULL;
	struct op_map m = { 0 };
	size_t n, shown;

	if (!op_read(r, op_leases_params, ARRAY_SIZE(op_leases_params), &p))
		return;
	n = op_leases_sorted(d, p.after, &all);
	shown = MIN_OF(n, (size_t)p.limit);
	op_map_name(&m, "leases");
	m.r = m.r < 0 ? m.r : pack_array(&m.pairs, shown);
	for (size_t i = 0; i < shown && m.r == 0; i++)
		m.r = op_leases_one(all[i], &m.pairs);
	if (shown < n)
		op_map_text(&m, "next", all[shown - 1]->row.id);
	free(all);
	request_send(r, op_map_end(&m, request_reply(r)));
}
