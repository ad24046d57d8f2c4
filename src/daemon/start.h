/* The steps of a start, before the loop runs. Exit codes as sysexits.h; what failed was logged. */
#pragma once

#include <stdbool.h>

#include "base/macros.h"

struct daemon;
struct leader;
struct secret;

/* Process-wide protections and limits. */
int start_process(void);
/* As seal_key_load(); makes a missing key only if there is no state that another one sealed. */
int start_seal_key(bool system_mode, const char *state_dir, struct secret **ret) _must_check_;
/* Finds out who we are, reads the seal key and calls start_store(). What passes leaves d->store
 * NULL. */
int start_state(struct daemon *d) _must_check_;
/* Opens the store and enters this instance into it. As store_open(). */
int start_store(struct daemon *d) _must_check_;
/* Is it an outcome that a standby waits out: no room, or a state that cannot be written? */
bool start_may_pass(int r);
/* Proven: the process that the row names has ended. Within another pid namespace a pid proves
 * nothing. */
bool start_is_dead(const struct leader *row, const struct leader *self);
/* Says what an outcome of the store means for the process, and the exit code for it. */
int start_store_failed(const struct daemon *d, int r);
/* After --reset-state, once this instance leads: what becomes of the old state's keys, which the
 * new one does not know. */
void start_tell_of_old_keys(const struct daemon *d);
