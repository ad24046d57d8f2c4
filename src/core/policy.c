/* Rules in order; the first that matches both peer and profile decides. No rule: denied. */
#include "core/policy.h"

#include <string.h>

#define POLICY_NOBODY \
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

bool policy_rule_matches(const struct rule *rule, const struct peer *peer)
{
	if (peer->uid == POLICY_NOBODY || peer->pid == 0)
		return false;
	if (rule->has_uid && rule->uid != peer->uid)
		return false;
	return !rule->has_gid || policy_has_group(peer, rule->gid);
}

static bool policy_rule_names(const struct rule *rule, const char *profile)
{
	for (size_t i = 0; i < rule->n_profiles; i++)
		if (strcmp(rule->profiles[i], "*") == 0 || strcmp(rule->profiles[i], profile) == 0)
			return true;
	return false;
}

struct verdict policy_check(const struct config *c, const struct peer *peer, const char *profile)
{
	for (size_t i = 0; i < c->n_rules; i++)
		if (policy_rule_matches(&c->rules[i], peer) &&
		    policy_rule_names(&c->rules[i], profile))
			return (struct verdict){ .allowed = true, .rule = &c->rules[i] };
	return (struct verdict){ 0 };
}

int64_t policy_connections(const struct config *c, const struct peer *peer)
{
	for (size_t i = 0; i < c->n_rules; i++)
		if (c->rules[i].max_connections >= 0 && policy_rule_matches(&c->rules[i], peer))
			return c->rules[i].max_connections;
	return c->max_connections;
}
