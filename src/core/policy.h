/* (peer, profile) -> verdict. A refusal is a value. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "core/config.h"
#include "core/peer.h"

struct verdict {
	bool allowed;
	const struct rule *rule; /* that decided; NULL: no rule matched (default: deny). Borrowed
				    from the config */
};

struct verdict policy_check(const struct config *c, const struct peer *peer, const char *profile);

/* Why a rule does not decide about a peer and a profile: the first thing in this order. */
enum policy_miss {
	POLICY_FITS,
	POLICY_NOBODY,	/* the overflow uid: no rule matches it */
	POLICY_FOREIGN, /* pid 0, and the rule does not allow that */
	POLICY_WAITS,	/* a listen section that has been given another socket by a reload */
	POLICY_UNTOLD,	/* pid 0, and the kernel does not tell which process it is */
	POLICY_USER,
	POLICY_GROUP,
	POLICY_UNIT,
	POLICY_USER_UNIT,
	POLICY_EXE,
	POLICY_PROFILE,
};

/* How many connections the peer's uid may have: as the first rule says that matches it and says
 * so, else as the configuration does. */
int64_t policy_connections(const struct config *c, const struct peer *peer);
/* Does `rule` match this peer, whatever the profile? It must be one of policy_rules(). */
bool policy_rule_matches(const struct rule *rule, const struct peer *peer);
enum policy_miss policy_rule_miss(const struct rule *rule, const struct peer *peer,
				  const char *profile);
/* The rules that are for this peer: those of the configuration, or the one of its `listen`
 * section. */
const struct rule *policy_rules(const struct config *c, const struct peer *peer, size_t *ret_n);
/* Does `pattern` hold * ? or [ ? */
bool policy_is_glob(const char *pattern);
/* Does a rule's unit or profile, which may be a glob, match this name? "" is no name. */
bool policy_glob_matches(const char *pattern, const char *name);
/* Does the rule name this profile? */
bool policy_rule_names(const struct rule *rule, const char *profile);
