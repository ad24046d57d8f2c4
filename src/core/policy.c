/* Rules in order; the first that matches both peer and profile decides. No rule: denied. */
#include "core/policy.h"

#include <fnmatch.h>
#include <string.h>

#define POLICY_NOBODY_UID \
	65534 /* the overflow uid: whoever the kernel could not map is nobody in particular */

static bool policy_has_group(const struct peer *peer, gid_t gid)
{
	if (peer->gid == gid)
		return true;
	for (size_t i = 0; i < peer->n_groups; i++)
		if (peer->groups[i] == gid)
			return true;
	return false;
}

bool policy_is_glob(const char *pattern)
{
	return strpbrk(pattern, "*?[") != NULL;
}

/* A backslash is part of a unit's name. */
bool policy_glob_matches(const char *pattern, const char *name)
{
	return *name && fnmatch(pattern, name, FNM_NOESCAPE) == 0;
}

/* Of a foreign process nothing is known but what came with the connection. */
static enum policy_miss policy_peer_miss(const struct rule *rule, const struct peer *peer)
{
	if (peer->uid == POLICY_NOBODY_UID)
		return POLICY_NOBODY;
	if (peer->pid != 0)
		return POLICY_FITS;
	if (!rule->foreign_pid || rule->unit || rule->user_unit || rule->exe)
		return POLICY_FOREIGN;
	return peer->pinned ? POLICY_FITS : POLICY_UNTOLD;
}

/* What a listen section says is of its socket: who came by it has been let in. */
static enum policy_miss policy_names_miss(const struct rule *rule, const struct peer *peer)
{
	if (rule->path)
		return rule->waits ? POLICY_WAITS : POLICY_FITS;
	if (rule->has_uid && rule->uid != peer->uid)
		return POLICY_USER;
	if (rule->has_gid && !policy_has_group(peer, rule->gid))
		return POLICY_GROUP;
	if (rule->unit && !policy_glob_matches(rule->unit, peer->unit))
		return POLICY_UNIT;
	if (rule->user_unit && !policy_glob_matches(rule->user_unit, peer->user_unit))
		return POLICY_USER_UNIT;
	if (rule->exe && (peer->exe_elsewhere || strcmp(rule->exe, peer->exe) != 0))
		return POLICY_EXE;
	return POLICY_FITS;
}

bool policy_rule_names(const struct rule *rule, const char *profile)
{
	for (size_t i = 0; i < rule->n_profiles; i++)
		if (policy_glob_matches(rule->profiles[i], profile))
			return true;
	return false;
}

bool policy_rule_matches(const struct rule *rule, const struct peer *peer)
{
	return policy_peer_miss(rule, peer) == POLICY_FITS &&
	       policy_names_miss(rule, peer) == POLICY_FITS;
}

enum policy_miss policy_rule_miss(const struct rule *rule, const struct peer *peer,
				  const char *profile)
{
	enum policy_miss miss = policy_peer_miss(rule, peer);

	miss = miss == POLICY_FITS ? policy_names_miss(rule, peer) : miss;
	if (miss == POLICY_FITS && !policy_rule_names(rule, profile))
		miss = POLICY_PROFILE;
	return miss;
}

const struct rule *policy_rules(const struct config *c, const struct peer *peer, size_t *ret_n)
{
	if (!peer->listen[0]) {
		*ret_n = c->n_rules;
		return c->rules;
	}
	*ret_n = 1;
	for (size_t i = 0; i < c->n_listens; i++)
		if (strcmp(c->listens[i].name, peer->listen) == 0)
			return &c->listens[i];
	*ret_n = 0; /* a reload has taken it away */
	return NULL;
}

struct verdict policy_check(const struct config *c, const struct peer *peer, const char *profile)
{
	size_t n;
	const struct rule *rules = policy_rules(c, peer, &n);

	for (size_t i = 0; i < n; i++)
		if (policy_rule_miss(&rules[i], peer, profile) == POLICY_FITS)
			return (struct verdict){ .allowed = true, .rule = &rules[i] };
	return (struct verdict){ 0 };
}

int64_t policy_connections(const struct config *c, const struct peer *peer)
{
	size_t n;
	const struct rule *rules = policy_rules(c, peer, &n);

	for (size_t i = 0; i < n; i++)
		if (rules[i].max_connections >= 0 && policy_rule_matches(&rules[i], peer))
			return rules[i].max_connections;
	return c->max_connections;
}
