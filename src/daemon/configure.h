/* What a configuration sets going, at the start and when it is read again. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "daemon/daemon.h"

struct peer;

/* Takes over what the configuration says of limits per uid, and of upstream (-errno). */
void daemon_limits(struct daemon *d);
int daemon_upstream(struct daemon *d) _must_check_;
/* What came of reading the configuration again. */
struct daemon_reloaded {
	bool ok;			/* false: it has errors, and the old one stays */
	char detail[CONFIG_ERROR_SIZE]; /* what has changed; the first of the errors */
	const char *waits[8];		/* settings that were changed and wait for a restart */
	size_t n_waits;
	bool master_changed; /* another master key is in force */
};
/* `outcome` as change_done_fn's: not 0: it could not be recorded, so the old one stays. */
typedef void (*daemon_reloaded_fn)(void *userdata, int outcome, const struct daemon_reloaded *what);
/* A leader reads the configuration again, for `by` (NULL: SIGHUP). It is on record before it is in
 * force. */
void daemon_reload(struct daemon *d, const struct peer *by, daemon_reloaded_fn done,
		   void *userdata);
/* A standby does, and records nothing. */
void daemon_reread(struct daemon *d);
/* The same if a leader has done so since this instance did: a successor goes by the same rules. */
void daemon_follow_reloads(struct daemon *d);
