/* `status`: how the broker is, and its profiles in pages. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "daemon/daemon.h"
#include "daemon/keys.h"
#include "daemon/leases.h"
#include "daemon/op.h"
#include "daemon/op_map.h"
#include "daemon/outage.h"
#include "daemon/op_retiring.h"
#include "daemon/op_rows.h"
#include "daemon/pool.h"
#include "daemon/roll.h"
#include "daemon/shared.h"
#include "daemon/teams.h"
#include "daemon/upstream.h"
#include "io/store.h"
#include "io/store_audit_prune.h"
#include "io/store_rows.h"

#define OP_STATUS_WARNINGS_BYTES 8192
#define OP_STATUS_STANDBYS 64

struct op_status_params {
	const char *after;
	int64_t limit;
};

static const struct op_param op_status_params[] = {
	{ "after", OP_TEXT, false, offsetof(struct op_status_params, after), 0,
	  PROFILE_NAME_MAX - 1 },
	{ "limit", OP_INT, false, offsetof(struct op_status_params, limit), 1, OP_LIST_MAX },
};

const char *op_master_key_source(const struct daemon *d)
{
	static const char *const sources[] = { "none", "credential", "file", "environment" };

	return sources[d->config->master_key_source];
}

static void op_status_upstream(const struct daemon *d, struct op_map *m)
{
	struct op_map inner = { 0 }, master = { 0 };
	int64_t since = 0;

	op_map_text(&inner, "url", d->config->upstream_url);
	op_map_bool(&inner, "reachable", d->upstream && upstream_reachable(d->upstream, &since));
	op_map_time(&inner, "since_at_ms", since);
	op_map_text(&inner, "error", d->upstream ? upstream_last_error(d->upstream) : "");
	if (d->config->master_key) {
		op_map_text(&master, "source", op_master_key_source(d));
		op_map_bool(&master, "well_known", config_master_key_is_well_known(d->config));
		op_map_bool(&master, "rejected", d->upstream && upstream_is_rejected(d->upstream));
		op_map_map(&inner, "master_key", &master);
	}
	op_map_map(m, "upstream", &inner);
}

static void op_status_keys(const struct daemon *d, struct op_map *m)
{
	int64_t counts[KEY_N_STATES] = { 0 };
	struct op_map inner = { 0 };

	for (const struct key *k = keys_first(d->keys); k; k = keys_next(k))
		counts[k->row.state]++;
	for (int state = KEY_INTENT; state < KEY_DELETED; state++)
		op_map_int(&inner, key_state_name((enum key_state)state), counts[state]);
	op_map_map(m, "keys", &inner);
}

static int64_t op_status_leases(const struct daemon *d, const char *profile)
{
	int64_t n = 0;

	for (const struct lease *l = leases_first(d->leases); l; l = leases_next(l))
		n += strcmp(l->row.profile, profile) == 0;
	return n;
}

static bool op_status_is_over(const struct key_row *row)
{
	return row->expires_at_ms > 0 && row->expires_at_ms <= clock_now().wall_ms;
}

static void op_status_shared(const struct shared *s, struct op_map *m)
{
	op_map_text(m, "state",
		    !s->current				  ? "waiting"
		    : op_status_is_over(&s->current->row) ? "expired"
							  : "ready");
	op_map_text(m, "error", s->error);
	if (s->retry_at_ms)
		op_map_int(m, "retry_at_ms",
			   clock_now().wall_ms + s->retry_at_ms - clock_now().boot_ms);
	if (!s->current)
		return;
	op_retiring_name(s->current, m);
	op_map_time(m, "expires_at_ms", s->current->row.expires_at_ms);
}

static void op_status_outage(const struct daemon *d, const char *profile, struct op_map *m)
{
	struct op_map inner = { 0 };
	struct outage o;

	outage_look(d, profile, &o);
	op_map_bool(&inner, "new_callers", o.new_callers);
	op_map_int(&inner, "keys", o.keys);
	op_map_int(&inner, "never_expire", o.endless);
	op_map_time(&inner, "first_at_ms", o.first_end_ms);
	op_map_time(&inner, "last_at_ms", o.last_end_ms);
	op_map_map(m, "outage", &inner);
}

static void op_status_pool(const struct daemon *d, const char *name, struct op_map *m)
{
	const struct profile *p = config_profile(d->config, name);
	struct pool_state s = pool_state(d, name);
	struct op_map inner = { 0 };

	if (!p || p->pool <= 0)
		return;
	op_map_int(&inner, "size", p->pool);
	op_map_int(&inner, "ready", (int64_t)s.ready);
	op_map_int(&inner, "making", (int64_t)s.making);
	op_map_text(&inner, "error", s.error);
	op_map_map(m, "pool", &inner);
}

static void op_status_team(const struct daemon *d, const char *name, struct op_map *m)
{
	const struct profile *p = config_profile(d->config, name);
	struct team_view team;
	struct op_map inner = { 0 };

	if (!p || !teams_view(d, p, &team))
		return;
	op_map_text(&inner, "id", team.id);
	op_map_text(&inner, "alias", team.alias);
	op_map_bool(&inner, "ours", team.ours);
	op_map_text(&inner, "drift", team.drift);
	op_map_map(m, "team", &inner);
}

struct op_status_row {
	const char *name;
	enum profile_mode mode;
};

static void op_status_profile(const struct daemon *d, const struct op_status_row *p,
			      struct op_retiring_room *room, struct op_map *m)
{
	const struct shared *s = p->mode == PROFILE_SHARED ? shared_find(d, p->name) : NULL;

	op_map_text(m, "name", p->name);
	op_map_text(m, "mode", profile_mode_name(p->mode));
	op_map_int(m, "leases", op_status_leases(d, p->name));
	if (!config_profile(d->config, p->name))
		op_map_text(m, "state", "removed");
	else if (s)
		op_status_shared(s, m);
	else
		op_map_text(m, "state", p->mode == PROFILE_STATIC ? "static" : "on demand");
	op_status_outage(d, p->name, m);
	op_status_pool(d, p->name, m);
	op_status_team(d, p->name, m);
	op_retiring_pack(d, p->name, room, m);
}

/* The profiles of the answer; names are borrowed. */
struct op_status_rows {
	struct op_status_row *rows;
	size_t n;
};

static void op_status_add(struct op_status_rows *all, const char *name, enum profile_mode mode)
{
	all->rows = xrealloc(all->rows, all->n + 1, sizeof(*all->rows));
	all->rows[all->n++] = (struct op_status_row){ .name = name, .mode = mode };
}

/* `from` on stand those that have left the configuration while keys or leases of them are left. */
static void op_status_add_removed(const struct daemon *d, struct op_status_rows *all, size_t from,
				  const struct op_status_row *row)
{
	bool found = config_profile(d->config, row->name) != NULL;

	for (size_t i = from; i < all->n && !found; i++)
		found = strcmp(all->rows[i].name, row->name) == 0;
	if (!found)
		op_status_add(all, row->name, row->mode);
}

static void op_status_collect(const struct daemon *d, struct op_status_rows *all)
{
	size_t configured = d->config->n_profiles;

	for (size_t i = 0; i < configured; i++)
		op_status_add(all, d->config->profiles[i].name, d->config->profiles[i].mode);
	for (const struct key *k = keys_first(d->keys); k; k = keys_next(k))
		if (key_is_out(k))
			op_status_add_removed(
				d, all, configured,
				&(struct op_status_row){ k->row.profile, k->row.mode });
	for (const struct lease *l = leases_first(d->leases); l; l = leases_next(l))
		op_status_add_removed(
			d, all, configured,
			&(struct op_status_row){ l->row.profile,
						 l->key ? l->key->row.mode : PROFILE_STATIC });
}

static int op_status_compare(const void *a, const void *b)
{
	return strcmp(((const struct op_status_row *)a)->name,
		      ((const struct op_status_row *)b)->name);
}

static bool op_status_add_profile(const struct daemon *d, const struct op_status_row *row,
				  struct op_rows *rows)
{
	struct op_retiring_room room = OP_RETIRING_ROOM, none = { 0 };
	struct op_map m = { 0 };

	op_status_profile(d, row, &room, &m);
	if (op_rows_add(rows, &m))
		return true;
	if (rows->n > 0)
		return false;
	/* no page is empty, or the next one would not come */
	op_status_profile(d, row, &none, &m);
	return op_rows_add(rows, &m);
}

/* By name: the pages stay right whatever comes and goes between them. */
static void op_status_profiles(const struct daemon *d, const struct op_status_params *p,
			       struct op_map *m)
{
	struct op_status_rows all = { 0 };
	struct op_rows rows;
	size_t i = 0;

	op_status_collect(d, &all);
	if (all.n > 0)
		qsort(all.rows, all.n, sizeof(*all.rows), op_status_compare);
	while (i < all.n && strcmp(all.rows[i].name, p->after) <= 0)
		i++;
	op_rows_begin(&rows, m);
	while (i < all.n && rows.n < (size_t)p->limit &&
	       op_status_add_profile(d, &all.rows[i], &rows))
		i++;
	op_rows_end(&rows, m, "profiles");
	if (i > 0 && i < all.n)
		op_map_text(m, "next", all.rows[i - 1].name);
	free(all.rows);
}

/* The configuration's, of which there is one for each of many rules, and those that come and go. */
static void op_status_warnings(struct daemon *d, struct op_map *m)
{
	size_t n = d->config->n_warnings, shown = 0, bytes = 0, rest;
	_cleanup_(freep) char **all = xcalloc(n + 1 + SPACE_N_WARNINGS, sizeof(*all));
	_cleanup_(freep) char *more = NULL;

	while (shown < n && bytes < OP_STATUS_WARNINGS_BYTES) {
		all[shown] = d->config->warnings[shown];
		bytes += strlen(all[shown++]);
	}
	rest = n - shown;
	if (rest > 0) {
		more = xasprintf("%zu more about the configuration: `keybrokerd --check` says all",
				 rest);
		all[shown++] = more;
	}
	space_check(d); /* the last look may be from before the disk filled */
	op_map_texts(m, "warnings", all, shown + space_warnings(&d->space, all + shown));
}

static void op_status_audit(struct daemon *d, struct op_map *m)
{
	struct audit_checkpoint checkpoint;
	struct op_map inner = { 0 };
	uint8_t hash[HASH_SIZE];
	uint64_t sequence = 0, exported;

	store_audit_head(d->store, &sequence, hash);
	op_map_int(&inner, "sequence", (int64_t)sequence);
	if (store_audit_exported(d->store, &exported) == 0)
		op_map_int(&inner, "exported", (int64_t)exported);
	if (store_audit_checkpoint(d->store, &checkpoint) == 0)
		op_map_int(&inner, "pruned", (int64_t)checkpoint.sequence);
	op_map_map(m, "audit", &inner);
}

static int op_status_standby(const struct leader *row, struct buf *b)
{
	struct op_map m = { 0 };

	op_map_text(&m, "instance", row->instance);
	op_map_int(&m, "pid", row->pid);
	return op_map_end(&m, b);
}

static void op_status_standbys(const struct daemon *d, struct op_map *m)
{
	size_t n = 0;

	while (n < OP_STATUS_STANDBYS && roll_get(d->roll, n))
		n++;
	op_map_name(m, "standbys");
	m->r = m->r < 0 ? m->r : pack_array(&m->pairs, n);
	for (size_t i = 0; i < n && m->r == 0; i++)
		m->r = op_status_standby(roll_get(d->roll, i), &m->pairs);
}

static void op_status_broker(struct daemon *d, struct op_map *m)
{
	op_map_text(m, "version", KEYBROKER_VERSION);
	op_map_text(m, "instance", d->config->instance);
	op_map_int(m, "pid", getpid());
	op_map_int(m, "term", (int64_t)d->term);
	op_status_standbys(d, m);
	op_map_int(m, "started_at_ms", d->started_at_ms);
	op_map_text(m, "install", store_install(d->store));
	op_map_text(m, "state_dir", d->config->state_dir);
	op_map_text(m, "socket", d->config->socket_path);
	op_map_text(m, "durability",
		    d->config->durability == DURABILITY_CRASH ? "crash" : "power_loss");
	op_status_upstream(d, m);
	op_status_keys(d, m);
	op_map_int(m, "leases", (int64_t)leases_count(d->leases));
	op_status_audit(d, m);
	op_status_warnings(d, m);
}

void op_status(struct daemon *d, struct request *r)
{
	struct op_status_params p = { .after = "", .limit = OP_LIST_DEFAULT };
	struct op_map m = { 0 };

	if (!op_read(r, op_status_params, ARRAY_SIZE(op_status_params), &p))
		return;
	if (!*p.after)
		op_status_broker(d, &m);
	op_status_profiles(d, &p, &m);
	request_send(r, op_map_end(&m, request_reply(r)));
}
