/*
 * The state: one SQLite file in WAL mode. Opening, the turn's transaction, and the leader's term.
 * Rows are in store_rows.h. Only the leader writes, and every write transaction proves first that
 * its term is still current; triggers make that structural.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/crypt.h"
#include "base/macros.h"
#include "core/config.h"
#include "core/peer.h"

struct store;

#define STORE_INSTALL_SIZE 25 /* 24 letters and digits, and the NUL */

enum store_outcome {
	STORE_OK = 0,
	STORE_E_BUSY = 1, /* another process holds the lock; nothing was written */
	STORE_E_FULL,	  /* no room (SQLITE_FULL, or IOERR with ENOSPC or EDQUOT before COMMIT);
			     nothing was written */
	STORE_E_READONLY, /* the file or its file system cannot be written; nothing was written */
	STORE_E_FENCED,	  /* another term leads: this process must not write again */
	STORE_E_MOVED,	  /* one of the files was removed or replaced: what is written is lost */
	STORE_E_NEWER,	  /* the file was written by a newer schema */
	STORE_E_SEAL,	  /* the file was sealed with another seal key */
	STORE_E_LED,	  /* claim: another living process leads */
	STORE_E_CORRUPT,  /* quick_check of a small table failed */
	STORE_E_ACCESS,	  /* directory or file with the wrong owner, mode or file system; the reason
			     was logged */
	STORE_E_BROKEN,	  /* the audit is not as it was written */
};

/* Does it end the process: -EIO after which nobody knows what is on the disk, fenced, or moved? */
bool store_outcome_is_final(int outcome);
/* What an outcome means, for the log. */
const char *store_outcome_text(enum store_outcome outcome);

/*
 * Opens `<dir>/state.db`, making both where missing (0700, 0600), and brings the schema up to date.
 * The directory is resolved once and checked: ours, 0700, not a network file system. A state that
 * is refused is left untouched. -errno, or STORE_E_NEWER, _SEAL, _ACCESS, _CORRUPT, _BUSY, _FULL,
 * _READONLY. `keyring` is borrowed for the store's life. May wait 5 s for others that open it too.
 */
int store_open(struct store **ret, const char *dir, enum durability durability,
	       const struct keyring *keyring) _must_check_;
void store_free(struct store *s);
DEFINE_CLEANUP(struct store, store)

/*
 * The install id: identity of this state, a random part and a hash of machine id, uid and state
 * path. store_claim() makes a new one if that hash has changed (a copied state), so it is final
 * only after the claim.
 */
const char *store_install(const struct store *s);

/* --- leadership --- */

struct leader {
	uint64_t term;
	pid_t pid; /* 0: vacant */
	uint64_t start_time;
	char boot_id[BOOT_ID_SIZE];
	uint64_t pidns;	      /* inode of the pid namespace */
	char holder[ID_SIZE]; /* random, one per process start */
	char instance[64];
	uint64_t beat; /* one more while it lives, if anybody watches */
};

/* Is the process in `row` proven dead? Called inside the claim's transaction. */
typedef bool (*store_dead_fn)(const struct leader *row, void *userdata);

/*
 * Takes the leader row if it is vacant, of another boot, or `dead` says so; term + 1. `self` has
 * everything but `term`, which is set. `ret_before`: the row as it was (term 0: nobody ever led;
 * pid 0: who gave it up); STORE_E_LED: it stands. STORE_E_BUSY, _FULL, _READONLY, -errno.
 */
int store_claim(struct store *s, struct leader *self, store_dead_fn dead, void *userdata,
		struct leader *ret_before) _must_check_;
/* Who leads the state in `dir`, of any seal key, without opening it as a store. -ENOENT: nobody
 * ever did, or it cannot be read (logged then). */
int store_peek_leader(const char *dir, struct leader *ret) _must_check_;
/* Vacates the row if it is still ours. */
int store_vacate(struct store *s) _must_check_;
/* One SELECT: is our term still the current one? STORE_E_FENCED if not. */
int store_check_term(struct store *s) _must_check_;
uint64_t store_term(const struct store *s);
/* STORE_E_MOVED (logged): an open file is not that of its name. Transactions look by themselves. */
int store_check_place(struct store *s) _must_check_;

/* --- the turn's transaction --- */

/* Begins a write transaction, checks the fence. STORE_E_BUSY, _FULL, _READONLY, _FENCED, _MOVED. */
int store_begin(struct store *s) _must_check_;
/*
 * Commits, unless a write of the turn failed: then it rolls back and yields that failure.
 * STORE_E_FULL, _BUSY, _READONLY: rolled back. -EIO: after a failed fsync nobody knows
 * what is on the disk; the process must end (exit 74).
 */
int store_commit(struct store *s) _must_check_;
void store_rollback(struct store *s);

/*
 * The file system was full, and the 4 MiB kept for that are given up: only what frees something
 * (release, revoke, delete) should be written. Ends by itself when there is room again, at a
 * store_checkpoint().
 */
bool store_is_short(const struct store *s);

/* Guarded, as the WAL-reset bug of SQLite < 3.51.3 demands; cheap when there is nothing to do. */
int store_checkpoint(struct store *s) _must_check_;
/* Has the log grown by 4 MiB since the last one, done or tried? Then the next is not to wait. */
bool store_log_is_long(const struct store *s);
/* durability = crash: makes what was committed safe from a power cut. */
int store_sync(struct store *s) _must_check_;
