/* What the broker sees of a peer and how the rules judge it: `whoami`, `explain`. */
#include <stddef.h>
#include <string.h>

#include "core/policy_words.h"
#include "daemon/daemon.h"
#include "daemon/denials.h"
#include "daemon/op.h"
#include "daemon/op_map.h"

#define OP_EXPLAIN_GID_NONE ((int64_t)UINT32_MAX)

static void op_peer_groups(struct op_map *m, const struct peer *p)
{
	op_map_name(m, "groups");
	m->r = m->r < 0 ? m->r : pack_array(&m->pairs, p->n_groups);
	for (size_t i = 0; i < p->n_groups && m->r == 0; i++)
		m->r = pack_int(&m->pairs, p->groups[i]);
}

/* `asked`: it is no peer that is there, but one that an administrator thinks of. */
static void op_peer(struct op_map *m, const struct peer *p, bool asked)
{
	op_map_int(m, "uid", p->uid);
	if (!asked || p->gid != (gid_t)OP_EXPLAIN_GID_NONE)
		op_map_int(m, "gid", p->gid);
	op_peer_groups(m, p);
	if (!asked) {
		op_map_int(m, "pid", p->pid);
		op_map_int(m, "start_time", (int64_t)p->start_time);
	}
	if (p->pid == 0)
		op_map_bool(m, "foreign_pid", true);
	op_map_text(m, "unit", p->unit);
	op_map_text(m, "user_unit", p->user_unit);
	op_map_text(m, "exe", p->exe);
	if (p->exe_elsewhere)
		op_map_bool(m, "exe_elsewhere", true);
	op_map_text(m, "listen", p->listen);
}

void op_whoami(struct daemon *d, struct request *r)
{
	const struct peer *p = request_peer(r);
	size_t n, matching = 0;
	const struct rule *rules = policy_rules(d->config, p, &n);
	struct op_map m = { 0 };

	op_peer(&m, p, false);
	for (size_t i = 0; i < n; i++)
		matching += policy_rule_matches(&rules[i], p);
	op_map_name(&m, "rules");
	m.r = m.r < 0 ? m.r : pack_array(&m.pairs, matching);
	for (size_t i = 0; i < n && m.r == 0; i++)
		if (policy_rule_matches(&rules[i], p))
			m.r = pack_text(&m.pairs, rules[i].name);
	request_send(r, op_map_end(&m, request_reply(r)));
}

/* --- explain --- */

struct op_explain_params {
	const char *profile, *unit, *user_unit, *exe, *listen;
	int64_t after, limit, uid, gid;
	bool foreign_pid;
};

#define PARAM(name, type, min, max)                                                    \
	{                                                                              \
#name, type, false, offsetof(struct op_explain_params, name), min, max \
	}
static const struct op_param op_explain_params[] = {
	{ "profile", OP_TEXT, true, offsetof(struct op_explain_params, profile), 1,
	  PROFILE_NAME_MAX - 1 },
	PARAM(after, OP_INT, 0, INT32_MAX),
	PARAM(limit, OP_INT, 1, OP_LIST_MAX),
	PARAM(uid, OP_INT, 0, UINT32_MAX - 1),
	PARAM(gid, OP_INT, 0, UINT32_MAX - 1),
	PARAM(unit, OP_TEXT, 0, PEER_UNIT_SIZE - 1),
	PARAM(user_unit, OP_TEXT, 0, PEER_UNIT_SIZE - 1),
	PARAM(exe, OP_TEXT, 0, 255),
	PARAM(listen, OP_TEXT, 0, PEER_LISTEN_SIZE - 1),
	PARAM(foreign_pid, OP_BOOL, 0, 0),
};
#undef PARAM

static bool op_explain_groups(const struct value *groups, struct peer *to)
{
	int64_t gid;

	if (!groups || value_type(groups) == VALUE_NIL)
		return true;
	if (value_type(groups) != VALUE_ARRAY || value_len(groups) > PEER_GROUPS_MAX)
		return false;
	for (size_t i = 0; i < value_len(groups); i++) {
		if (!value_int(value_at(groups, i), &gid) || gid < 0 || gid >= UINT32_MAX)
			return false;
		to->groups[to->n_groups++] = (gid_t)gid;
	}
	return true;
}

/* The peer that an administrator asks about. False: the request was ended. */
static bool op_explain_other(struct daemon *d, struct request *r, const struct op_explain_params *p,
			     struct peer *ret)
{
	const struct denied what = { "explain", p->profile,
				     "about another peer on the clients' socket" };
	size_t n;

	if (!r->admin) {
		denials_answer(d, r, &what,
			       "what another may have is shown on the admin socket, %s",
			       d->config->admin_socket_path);
		return false;
	}
	*ret = (struct peer){
		.uid = (uid_t)p->uid, .gid = (gid_t)p->gid, .pid = !p->foreign_pid, .pinned = true
	};
	(void)snprintf(ret->unit, sizeof(ret->unit), "%s", p->unit); /* all fit */
	(void)snprintf(ret->user_unit, sizeof(ret->user_unit), "%s", p->user_unit);
	(void)snprintf(ret->exe, sizeof(ret->exe), "%s", p->exe);
	(void)snprintf(ret->listen, sizeof(ret->listen), "%s", p->listen);
	(void)policy_rules(d->config, ret, &n);
	if (*p->listen && n == 0) {
		request_fail(r, PROTO_INVALID_REQUEST, -1, "no listen section is called \"%s\"",
			     p->listen);
		return false;
	}
	if (op_explain_groups(value_get(request_params(r), "groups"), ret))
		return true;
	request_fail(r, PROTO_INVALID_REQUEST, -1, "groups must be an array of group ids");
	return false;
}

/* Is anything said of another peer? */
static bool op_explain_asks(const struct request *r, const struct op_explain_params *p)
{
	return *p->unit || *p->user_unit || *p->exe || *p->listen || p->foreign_pid ||
	       p->gid != OP_EXPLAIN_GID_NONE || value_get(request_params(r), "groups");
}

static int op_explain_rule(const struct rule *rule, const struct peer *peer, const char *profile,
			   const struct rule *decides, bool full, struct buf *b)
{
	enum policy_miss miss = policy_rule_miss(rule, peer, profile);
	char why[POLICY_WHY_SIZE] = "a rule before it decides";
	struct op_map m = { 0 };

	if (miss != POLICY_FITS)
		policy_words_miss(rule, peer, miss, full, why);
	op_map_text(&m, "rule", rule->name);
	op_map_bool(&m, "decides", rule == decides);
	if (rule != decides)
		op_map_text(&m, "why", why);
	return op_map_end(&m, b);
}

static void op_explain_reply(struct daemon *d, struct request *r, const struct peer *peer,
			     const struct op_explain_params *p)
{
	struct verdict v = policy_check(d->config, peer, p->profile);
	size_t n, from, shown;
	const struct rule *rules = policy_rules(d->config, peer, &n);
	struct op_map m = { 0 }, sees = { 0 };

	from = MIN_OF((size_t)p->after, n);
	shown = MIN_OF(n - from, (size_t)p->limit);
	op_map_text(&m, "profile", p->profile);
	op_map_bool(&m, "allowed", v.allowed);
	if (v.rule)
		op_map_text(&m, "rule", v.rule->name);
	op_peer(&sees, peer, p->uid >= 0);
	op_map_map(&m, "sees", &sees);
	op_map_name(&m, "rules");
	m.r = m.r < 0 ? m.r : pack_array(&m.pairs, shown);
	for (size_t i = from; i < from + shown && m.r == 0; i++)
		m.r = op_explain_rule(&rules[i], peer, p->profile, v.rule, r->admin, &m.pairs);
	if (from + shown < n)
		op_map_int(&m, "next", (int64_t)(from + shown));
	request_send(r, op_map_end(&m, request_reply(r)));
}

void op_explain(struct daemon *d, struct request *r)
{
	struct op_explain_params p = { .unit = "",
				       .user_unit = "",
				       .exe = "",
				       .listen = "",
				       .limit = OP_LIST_DEFAULT,
				       .uid = -1,
				       .gid = OP_EXPLAIN_GID_NONE };
	struct peer other;

	if (!op_read(r, op_explain_params, ARRAY_SIZE(op_explain_params), &p))
		return;
	if (p.uid < 0 && op_explain_asks(r, &p))
		request_fail(r, PROTO_INVALID_REQUEST, -1,
			     "to ask about another peer, name its uid");
	else if (!config_profile(d->config, p.profile))
		request_fail(r, PROTO_UNKNOWN_PROFILE, -1,
			     "no profile is called \"%s\"; `keybroker list` shows those there are",
			     p.profile);
	else if (p.uid < 0)
		op_explain_reply(d, r, request_peer(r), &p);
	else if (op_explain_other(d, r, &p, &other))
		op_explain_reply(d, r, &other, &p);
}
