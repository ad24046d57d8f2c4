/*
 * No record, no key: everything that a turn of the loop decides is collected as changes and stored
 * in one fenced transaction at its end. Only when that is committed do the objects in memory take
 * their new values and do the replies leave; when it fails, nothing has happened.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "core/audit.h"
#include "core/key.h"
#include "core/lease.h"

struct change;
struct daemon;
struct key;
struct lease;
struct peer;
struct secret;
struct store;
struct turn;

/* Which members of a row a change sets. */
enum {
	KEY_SET_ALL = 1 << 0,	/* the row is new */
	KEY_SET_STATE = 1 << 1, /* with changed_at_ms */
	KEY_SET_ALIAS = 1 << 2,
	KEY_SET_EXPIRY = 1 << 3,
	KEY_SET_DELETE_AT = 1 << 4,
	KEY_SET_DELETE_SOONER = 1 << 7, /* delete_at_ms, though that is sooner: it is dead */
	KEY_SET_TEAM = 1 << 5,
	KEY_SET_IDENTITY = 1 << 6, /* hash, source, generation, created_at_ms */
	KEY_SET_AT_ONCE = 1 << 17,
	KEY_SET_OWNER = 1 << 16, /* uid, request_id */
	LEASE_SET_ALL = 1 << 8,
	LEASE_SET_STATE = 1 << 9, /* with ended_at_ms */
	LEASE_SET_ENDS_AT = 1 << 10,
	LEASE_SET_KEY = 1 << 11,
};

/* `outcome`: 0 committed; else a store_outcome, and nothing has changed. May make and submit
 * further changes. */
typedef void (*change_done_fn)(void *userdata, int outcome);
typedef void (*turn_late_fn)(void *userdata);
/* A write of its own; an outcome of the store. */
typedef int (*change_store_fn)(struct store *s, void *userdata);

struct turn *turn_new(struct daemon *d);
void turn_free(struct turn *t); /* drops what was not committed; its callbacks do not come */
DEFINE_CLEANUP(struct turn, turn)

/* Starts a change; change_submit() joins it to the turn. `done` may be NULL. */
struct change *change_new(struct turn *t, change_done_fn done, void *userdata) _must_check_;
/* Sets the members `set` of the key's row to those of `to`. The key is pinned until the change is
 * over. */
void change_key(struct change *c, struct key *key, unsigned set, const struct key_row *to);
/* Stores `secret` (borrowed until the change is over) with the key. */
void change_key_secret(struct change *c, const struct secret *secret);
void change_lease(struct change *c, struct lease *lease, unsigned set, const struct lease_row *to);
/* Calls `fn` with the change's userdata within its transaction, before its audit rows are written.
 */
void change_store(struct change *c, change_store_fn fn);
/* A row for the audit with time, term and instance filled in; valid until the submit. `peer` may be
 * NULL. */
struct audit_row *change_audit(struct change *c, const char *event, const char *outcome,
			       const struct peer *peer);
/* It frees something, or says that this was done: the last that is stored when the disk is full.
 * What ends leases and keys is so by itself. */
void change_vital(struct change *c);
/* It only has rows, of what has happened already: if they cannot be stored they are tried again
 * with each turn, before what came later. */
void change_kept(struct change *c);
void change_submit(struct change *c);

/* Calls `fn` at the end of this turn, before the commit: when all that the turn could learn is
 * known. */
void turn_late(struct turn *t, turn_late_fn fn, void *userdata);
/* Takes back what turn_late() asked with this userdata. */
void turn_late_cancel(struct turn *t, const void *userdata);
/* What stands in the way of a record, and what to do about it. */
const char *turn_reason(int outcome);
/*
 * Why a change's outcome is not 0, for the caller: "the release cannot be recorded now: the disk of
 * the broker's state is full, make room". `what` is "the release".
 */
#define TURN_WHY_SIZE 256
const char *turn_why(int outcome, const char *what, char ret[TURN_WHY_SIZE]);
/* Joins what was kept to this turn, since nothing else may come. Was there any? */
bool turn_retry(struct turn *t);
/*
 * Says in the log that what kept records from being written is over, if the log has heard of it and
 * the reserve is there. `outcome`: what can be over by now; 0 for whatever it was, as a commit
 * shows.
 */
void turn_say_over(struct turn *t, int outcome);
/* Is there still something to be committed? */
bool turn_is_pending(const struct turn *t);
/* Commits what was collected, until nothing is left. What store_outcome_is_final() names: the
 * process must end. */
int turn_end(struct turn *t) _must_check_;
