/*
 * The rows of the state: written within store_begin() and store_commit(), read at any time. After a
 * write that failed nothing more of its turn is written: the next ones and store_commit() yield
 * that failure again, and the latter rolls back. What an each-function calls must not write, nor
 * call the same function again; it may read otherwise. No lock outlives a call.
 */
#pragma once

#include <stddef.h>

#include "core/audit.h"
#include "core/key.h"
#include "core/lease.h"
#include "io/store.h"

struct secret;

/*
 * Inserts the key, or updates the row of that id. `secret` (may be NULL) is sealed into it; NULL
 * leaves what is there, except that a row which becomes KEY_DELETED loses it. Outcomes as
 * store_begin().
 */
int store_put_key(struct store *s, const struct key_row *row,
		  const struct secret *secret) _must_check_;
/* The same; `granted_at_ms` is a part of the id. An ended lease is not put as an active one. */
int store_put_lease(struct store *s, const struct lease_row *row) _must_check_;
/* Appends; sets row->sequence and row->hash. */
int store_append_audit(struct store *s, struct audit_row *row) _must_check_;

/* The sealed secret of a key. -ENOENT: none (or no such key); -EBADMSG: it doesn't open. Neither is
 * logged. */
int store_key_secret(struct store *s, const char *key_id, struct secret **ret) _must_check_;

/* Calls `each` for every key that is not deleted (and for deleted ones if `all`); a non-zero answer
 * stops and is returned. */
typedef int (*store_key_fn)(const struct key_row *row, void *userdata);
int store_each_key(struct store *s, bool all, store_key_fn each, void *userdata) _must_check_;
/* Every active lease. */
typedef int (*store_lease_fn)(const struct lease_row *row, void *userdata);
int store_each_lease(struct store *s, store_lease_fn each, void *userdata) _must_check_;
/* The key with this hash, whatever its state. -ENOENT (not logged). */
int store_key_by_hash(struct store *s, const char *hash, struct key_row *ret) _must_check_;
/* The highest generation that this shared profile ever had; 0: none. */
int store_last_generation(struct store *s, const char *profile, uint64_t *ret) _must_check_;
/* Has any lease that store_prune() has not taken, active or ended, this key? Reads all of them: for
 * what happens once in a while. */
int store_key_was_leased(struct store *s, const char *key_id, bool *ret) _must_check_;

/* Audit rows with sequence > `after`, oldest first, at most `limit`; a non-zero answer stops and is
 * returned. */
typedef int (*store_audit_fn)(const struct audit_row *row, void *userdata);
int store_each_audit(struct store *s, uint64_t after, size_t limit, store_audit_fn each,
		     void *userdata) _must_check_;
/* Sequence and hash of the last row; 0 and zeroes for an empty audit. */
void store_audit_head(const struct store *s, uint64_t *ret_sequence, uint8_t ret_hash[HASH_SIZE]);

/* Within a turn: the configuration was read again, see store_reloads(). */
int store_count_reload(struct store *s) _must_check_;

/*
 * Removes at most `limit` leases that ended and `limit` keys that were deleted before `before_ms`
 * (Unix), but for each shared profile's highest generation: its number is not used again. The audit
 * keeps what is worth knowing of them. Within a turn; outcomes as store_begin().
 */
int store_prune(struct store *s, int64_t before_ms, size_t limit) _must_check_;
