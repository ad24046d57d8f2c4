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
/* How many connections the peer's uid may have: as the first rule says that matches it and says
 * so, else as the configuration does. */
int64_t policy_connections(const struct config *c, const struct peer *peer);
/* Does `rule` match this peer, whatever the profile? */
bool policy_rule_matches(const struct rule *rule, const struct peer *peer);
