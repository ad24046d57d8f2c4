/*
 * The keys in memory: all of the store that are not deleted. key_drive() looks at one and starts
 * the next thing to be done for it: mint, burn, prolong, delete; one upstream call at a time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/clock.h"
#include "base/map.h"
#include "core/key.h"
#include "core/litellm.h"
#include "daemon/acquire.h"
#include "daemon/pool.h"
#include "daemon/upstream.h"

struct daemon;
struct keys;
struct audit_row;
struct report;
struct secret;
struct shared;

/* What a mint has still to do. */
enum mint_step { MINT_PREPARE, MINT_POST, MINT_CHECK, MINT_DONE };
enum burn_step { BURN_POST, BURN_BLOCK, BURN_RENAME, BURN_CHECK };

struct key {
	struct daemon *d;
	struct key_row row;
	struct key_row pending; /* the turn's draft of it */
	bool drafted;
	char tag[33], tagged[SHA256_HEX_SIZE]; /* its tag in the audit, and the hash it is of */
	unsigned pins;			       /* changes and calls that name it */
	struct secret *secret; /* NULL: nothing needs it, and it can be read from the store */
	struct shared *shared; /* its profile's, or NULL */
	unsigned n_leases, n_fixed, on_the_way; /* active; of them fixed; being granted */
	struct report *report;			/* owned; NULL: nobody has ever called it dead */
	struct pooled pooled;

	struct upstream_call *call; /* the one under way */
	bool storing; /* a change that decides what comes next is on its way to the disk */
	struct event *timer;
	int64_t drive_at_ms; /* boot time at which the timer fires; 0: it isn't armed */
	enum mint_step mint;
	enum burn_step burn;
	bool orphan; /* an intent that nobody wants any more */
	bool sent;   /* upstream may have it, or may yet get it from a POST without an answer */
	bool sent_before;	/* `sent` before the POST under way */
	const char *retire_why; /* a literal: it is to retire, if it has not yet */
	int64_t retire_grace_ms;
	bool blocked;		 /* upstream was told to, until it may be deleted */
	int64_t late_until_ms;	 /* Unix: a POST without an answer may bring it back until then */
	int64_t late_boot_ms;	 /* the same by the clock that nobody sets, as far as we know it */
	int64_t delete_boot_ms;	 /* row.delete_at_ms by that clock */
	int64_t changed_boot_ms; /* row.changed_at_ms by that clock */
	int64_t abandoned_at_ms; /* boot time since which an intent has had no waiter; 0: it has */
	bool corrected;		 /* a fresh key's life was put right once */
	bool name_taken;	 /* the last POST was refused because of the alias */
	unsigned names_tried;	 /* aliases that were taken */
	bool renaming;		 /* the call under way is key_rename()'s */
	bool rename_wanted;	 /* upstream doesn't know it by row.alias yet */
	bool dead;		 /* proven, or revoked: deleted whoever holds it */
	bool rename_sent;	 /* the call under way tells upstream the alias as it is now */
	unsigned burn_tries;
	int64_t call_deadline_ms; /* boot time: the next call makes no attempt after it; 0: none */
	int64_t recheck_at_ms;	  /* boot time of the next check; 0: none */
	int64_t extend_after_ms;  /* boot time: not prolonged again before */
	bool extend_wanted;	  /* a waiter needs more life than the key has */
	bool moved;	   /* upstream is another now: nobody gets it before that confirms it */
	bool checked;	   /* upstream has confirmed it since we lead, or could not be asked */
	bool trusted;	   /* whoever led until a moment ago served it: so do we meanwhile */
	unsigned failures; /* in a row, of what is being done */
	enum proto_error extend_error; /* for who insists on more life meanwhile */
	struct acquire_list waiters;   /* requests that wait for this very key */
	UT_hash_handle by_id;
};

struct keys *keys_new(struct daemon *d);
void keys_free(struct keys *keys);
DEFINE_CLEANUP(struct keys, keys)

/* Adds a key with this row: its row is in the store, or on its way there. */
struct key *key_add(struct daemon *d, const struct key_row *row);
struct key *keys_find(const struct keys *keys, const char *id);
/* Of those that are not deleted. */
struct key *keys_find_hash(const struct keys *keys, const char *hash);
/* The first key, then the next, or NULL. A key may go while its successor is looked at. */
struct key *keys_first(const struct keys *keys);
struct key *keys_next(const struct key *key);
/* A dedicated intent of this idempotency key, or NULL. */
struct key *keys_find_intent(const struct keys *keys, int64_t uid, const char *profile,
			     const char *request_id);

void key_pin(struct key *k);
void key_unpin(struct key *k); /* frees a key that is over */
/* The turn's draft of the row, made from the row at the first call. */
struct key_row *key_pending(struct key *k);
void key_settle(struct key *k, bool committed);
void key_row_set(struct key_row *row, unsigned set, const struct key_row *to);

/* Starts what is due for this key, or arms its timer. Called after anything of it has changed. */
void key_drive(struct key *k);
/* Calls key_drive() after `ms`, or sooner if that was asked for before. */
void key_drive_in(struct key *k, int64_t ms);
void key_want_rename(struct key *k); /* upstream is to be told its alias */
/* Starts an upstream call for the key; `done` gets the key and clears k->call first of all. */
void key_call(struct key *k, enum litellm_op op, char *text, upstream_done_fn done);
/* Reads the secret from the store if it isn't in memory. False: it cannot be had (logged). */
bool key_need_secret(struct key *k);
void key_drop_secret(struct key *k);
int64_t key_remaining_ms(const struct key *k, int64_t wall_ms); /* INT64_MAX: it never expires */
const struct profile *key_profile(const struct key *k);
bool key_is_out(const struct key *k); /* somebody may have it: live or retiring */
/* Adds the keyed tag of the key's hash and its profile to an audit row. */
void key_describe(struct key *k, struct audit_row *row);
/* A row about the key alone, where it went well: also its name, and `why` unless that is NULL. */
struct audit_row *key_audit(struct change *c, struct key *k, const char *event, const char *why);
