/* What a caller may ask about itself: hello, list; and its own leases: renew, release. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "core/policy.h"
#include "daemon/daemon.h"
#include "daemon/denials.h"
#include "daemon/keys.h"
#include "daemon/leases.h"
#include "daemon/op.h"
#include "daemon/op_map.h"
#include "daemon/op_rows.h"
#include "daemon/turn.h"

struct op_hello_params {
	const char *client;
};

static bool op_speaks_version_1(const struct value *versions)
{
	int64_t v;

	if (!versions || value_type(versions) != VALUE_ARRAY)
		return true;
	for (size_t i = 0; i < value_len(versions); i++)
		if (value_int(value_at(versions, i), &v) && v == 1)
			return true;
	return false;
}

void op_hello(struct daemon *d, struct request *r)
{
	static const struct op_param params[] = {
		{ "client", OP_TEXT, false, offsetof(struct op_hello_params, client), 0, 64 },
	};
	struct op_hello_params p = { 0 };
	struct buf *b;
	int n = 0;

	if (!op_read(r, params, ARRAY_SIZE(params), &p))
		return;
	if (!op_speaks_version_1(value_get(request_params(r), "versions"))) {
		request_fail(r, PROTO_INVALID_REQUEST, -1, "this broker speaks protocol 1 alone");
		return;
	}
	b = request_reply(r);
	n = n < 0 ? n : pack_map(b, 5);
	n = n < 0 ? n : pack_text(b, "broker");
	n = n < 0 ? n : pack_text(b, KEYBROKER_VERSION);
	n = n < 0 ? n : pack_text(b, "protocol");
	n = n < 0 ? n : pack_int(b, 1);
	n = n < 0 ? n : pack_text(b, "instance");
	n = n < 0 ? n : pack_text(b, d->config->instance);
	n = n < 0 ? n : pack_text(b, "term");
	n = n < 0 ? n : pack_int(b, (int64_t)d->term);
	n = n < 0 ? n : pack_text(b, "limits");
	n = n < 0 ? n : pack_map(b, 2);
	n = n < 0 ? n : pack_text(b, "request_bytes");
	n = n < 0 ? n : pack_int(b, (int64_t)message_request_limits.bytes);
	n = n < 0 ? n : pack_text(b, "reply_bytes");
	n = n < 0 ? n : pack_int(b, (int64_t)message_reply_limits.bytes);
	request_send(r, n);
}

static void op_list_profile(const struct daemon *d, const struct profile *p,
			    const struct rule *rule, struct op_map *m)
{
	_cleanup_(freep) char *base_url = config_base_url(d->config, p, rule);

	op_map_text(m, "name", p->name);
	op_map_text(m, "mode", profile_mode_name(p->mode));
	op_map_text(m, "rule", rule->name);
	op_map_text(m, "base_url", base_url);
	op_models_pack(m, p);
}

/* The next profile by name after `after` that the peer may have, or NULL. */
static const struct profile *op_list_next(const struct daemon *d, const struct peer *peer,
					  const char *after)
{
	const struct profile *best = NULL;

	for (size_t i = 0; i < d->config->n_profiles; i++) {
		const struct profile *p = &d->config->profiles[i];

		if (strcmp(p->name, after) > 0 && (!best || strcmp(p->name, best->name) < 0) &&
		    policy_check(d->config, peer, p->name).allowed)
			best = p;
	}
	return best;
}

struct op_list_params {
	const char *after;
	int64_t limit;
};

static const struct op_param op_list_params[] = {
	{ "after", OP_TEXT, false, offsetof(struct op_list_params, after), 0,
	  PROFILE_NAME_MAX - 1 },
	{ "limit", OP_INT, false, offsetof(struct op_list_params, limit), 1, OP_LIST_MAX },
};

void op_list(struct daemon *d, struct request *r)
{
	struct op_list_params params = { .after = "", .limit = OP_LIST_DEFAULT };
	const struct peer *peer = request_peer(r);
	const struct profile *p;
	struct op_map m = { 0 };
	struct op_rows rows;

	if (!op_read(r, op_list_params, ARRAY_SIZE(op_list_params), &params))
		return;
	op_rows_begin(&rows, &m);
	for (p = op_list_next(d, peer, params.after); p && rows.n < (size_t)params.limit;
	     p = op_list_next(d, peer, params.after)) {
		struct op_map row = { 0 };

		op_list_profile(d, p, policy_check(d->config, peer, p->name).rule, &row);
		if (!op_rows_add(&rows, &row))
			break;
		params.after = p->name;
	}
	op_rows_end(&rows, &m, "profiles");
	if (p)
		op_map_text(&m, "next", params.after);
	request_send(r, op_map_end(&m, request_reply(r)));
}

/* --- renew, release --- */

struct op_lease_params {
	const char *lease;
	int64_t ttl_ms;
};

static const struct op_param op_lease_params[] = {
	{ "lease", OP_TEXT, true, offsetof(struct op_lease_params, lease), 1, ID_SIZE - 1 },
	{ "ttl_ms", OP_INT, false, offsetof(struct op_lease_params, ttl_ms), 1000,
	  INT64_C(3153600000000) },
};

/* The peer's own active lease that the request names; else the request is ended. */
static struct lease *op_own_lease(struct daemon *d, struct request *r, struct op_lease_params *p)
{
	if (!op_read(r, op_lease_params, ARRAY_SIZE(op_lease_params), p))
		return NULL;
	return op_lease_of_peer(d, r, p->lease);
}

struct op_lease_answer {
	struct request *r;
	struct lease *lease; /* pinned by the change */
	int64_t ttl_ms;	     /* granted to a renewal */
	char id[ID_SIZE];
};

static struct op_lease_answer *op_lease_answer_new(struct request *r, struct lease *l)
{
	struct op_lease_answer *a = xcalloc(1, sizeof(*a));

	a->r = r;
	a->lease = l;
	memcpy(a->id, l->row.id, sizeof(a->id));
	return a;
}

static void op_renew_reply(struct request *r, const struct lease *l, int64_t ttl_ms)
{
	struct op_map m = { 0 };

	op_map_text(&m, "lease", l->row.id);
	op_map_time(&m, "lease_ends_at_ms", l->row.ends_at_ms);
	op_map_time(&m, "ttl_ms", ttl_ms);
	op_map_time(&m, "expires_at_ms", l->key ? l->key->row.expires_at_ms : 0);
	request_send(r, op_map_end(&m, request_reply(r)));
}

static void op_renewed(void *userdata, int outcome)
{
	struct op_lease_answer *a = userdata;
	char why[TURN_WHY_SIZE];

	if (outcome != 0) {
		request_fail(a->r, PROTO_AUDIT_UNAVAILABLE, 1000, "%s",
			     turn_why(outcome, "the renewal", why));
	} else if (a->lease->row.state != LEASE_ACTIVE) {
		request_fail(a->r, PROTO_UNKNOWN_LEASE, -1, "the lease has ended");
	} else {
		op_renew_reply(a->r, a->lease, a->ttl_ms);
	}
	free(a);
}

void op_renew(struct daemon *d, struct request *r)
{
	struct op_lease_params p = { .ttl_ms = -1 };
	struct lease *l = op_own_lease(d, r, &p);
	struct instant now = clock_now();
	struct lease_row to = { 0 };
	struct op_lease_answer *a;
	struct change *c;
	struct verdict v;

	if (!l)
		return;
	if (l->row.bind != LEASE_TTL) {
		op_renew_reply(r, l, 0);
		return;
	}
	v = policy_check(d->config, request_peer(r), l->row.profile);
	if (!v.allowed) {
		denials_by_rule(d, r, "renew", l->row.profile);
		return;
	}
	a = op_lease_answer_new(r, l);
	a->ttl_ms = op_ttl_ms(d, v.rule, p.ttl_ms);
	to.ends_at_ms = now.wall_ms + a->ttl_ms;
	to.ends_boot_ms = now.boot_ms + a->ttl_ms;
	memcpy(to.boot_id, d->boot_id, sizeof(to.boot_id));
	c = change_new(d->turn, op_renewed, a);
	change_lease(c, l, LEASE_SET_ENDS_AT, &to);
	lease_describe(l, change_audit(c, "renew", "ok", request_peer(r)));
	change_submit(c);
}

static void op_released(void *userdata, int outcome)
{
	struct op_lease_answer *a = userdata;
	char why[TURN_WHY_SIZE];

	if (outcome != 0) {
		request_fail(a->r, PROTO_AUDIT_UNAVAILABLE, 1000, "%s",
			     turn_why(outcome, "the release", why));
	} else {
		struct buf *b = request_reply(a->r);
		int n = pack_map(b, 2);

		n = n < 0 ? n : pack_text(b, "lease");
		n = n < 0 ? n : pack_text(b, a->id);
		n = n < 0 ? n : pack_text(b, "released");
		n = n < 0 ? n : pack_bool(b, true);
		request_send(a->r, n);
	}
	free(a);
}

void op_release(struct daemon *d, struct request *r)
{
	struct op_lease_params p = { 0 };
	struct lease *l = op_own_lease(d, r, &p);

	if (l)
		lease_end(l, LEASE_RELEASED, "release", request_peer(r), op_released,
			  op_lease_answer_new(r, l));
}
