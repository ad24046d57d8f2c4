/*
 * What the files of the store share: the open store and the steps of opening, claiming and writing.
 * Only io/store*.c and their tests include this.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/store.h"
#include "io/store_conn.h"
#include "io/store_dir.h"
#include "io/store_guard.h"

#define STORE_BUSY_MS 200	   /* BEGIN IMMEDIATE waits at most this long for another writer */
#define STORE_OPEN_WAIT_MS 5000	   /* many processes may create one state at the same time */
#define STORE_SCHEMA_CHECKPOINT 2  /* the version that brought audit_checkpoint */
#define STORE_CHECKPOINT_PAGES 256 /* a WAL of up to 1 MiB stays as it is */
#define STORE_LOG_PAGES 1024	   /* one of 4 MiB does not wait for the next tick */

/* The end of the audit's chain. */
struct store_head {
	uint64_t sequence;
	uint8_t hash[HASH_SIZE];
};

struct store {
	/* reads and the turn's transaction; `synchronous` as the durability says */
	struct store_conn turn;
	/* always FULL: claim, vacate, store_sync(), and the guard while `turn` checkpoints */
	struct store_conn full;
	/* instances and beats: never synced; opened at its first use */
	struct store_conn light;
	const struct keyring *keyring;
	struct store_guards *guards;
	char tampering[STORE_TAMPERING_SIZE];
	enum durability durability;
	char *dir; /* resolved */
	int dir_fd;
	/* as they are from the first read on, for as long as any connection lives */
	struct store_file companions[STORE_COMPANIONS];
	bool is_placed; /* they are known */
	bool has_moved; /* said */
	bool is_short;	/* the reserve was given up and isn't back */

	char install[STORE_INSTALL_SIZE];
	char identity[SHA256_HEX_SIZE]; /* what `install` was made for */
	bool has_machine;		/* the machine has an id of its own */

	uint64_t term; /* 0: never claimed, or vacated */
	char holder[ID_SIZE];

	bool in_turn;
	int turn_result;	     /* the first failure of the turn; nothing of it is committed */
	struct store_head head;	     /* of what is written, within the turn too */
	struct store_head committed; /* what a rollback goes back to */
	bool has_unsynced;	     /* durability = crash: commits that a power cut may lose */
	int wal_pages;		     /* that a checkpoint would move, as of our last commit; -1:
					unknown */
	int wal_tried;		     /* as many were there at the last try to move them */
};

/* --- store_schema.c --- */

/* Creates what is missing; checks version, seal key and small tables before anything is written. */
int store_schema_open(struct store *s) _must_check_;
/* The file's schema; 0 for an empty file. STORE_E_NEWER, _CORRUPT (logged). */
int store_schema_known(struct store_conn *c, long *ret) _must_check_;
/* Within a transaction of `c`: brings an older schema up to date. */
int store_schema_migrate(struct store_conn *c) _must_check_;
/* Within the claim's transaction: takes the stored install id, or stores a new one. */
int store_install_settle(struct store *s, struct store_conn *c) _must_check_;

/* Makes of a file with the schema `from` one with `to`. */
int store_schema_steps(struct store_conn *c, long from, long to) _must_check_;

/* --- store.c, store_audit.c, store_audit_prune.c --- */

/* A fenced commit of one changed row by `full`, so a synced one: it syncs the whole log, and so
 * what came before it; and it begins a log anew that was moved. STORE_E_*; -errno. */
int store_touch(struct store *s) _must_check_;

/* Has any of the files been removed or replaced since they were opened? Logged once. */
bool store_has_moved(struct store *s);
/* At the first FULL the reserve goes, so that what gives something back can still be written.
 * Yields r. */
int store_note_full(struct store *s, int r);
/* For sqlite3_wal_hook(): how long the log is, as of a commit by any of our connections. */
int store_wal_hook(void *userdata, sqlite3 *db, const char *name, int n_pages);
/* Term 0 and pid 0 if there never was a leader. */
int store_leader_read(struct store_conn *c, struct leader *ret) _must_check_;
/* Does the leader row have our (term, holder)? STORE_E_FENCED if not. */
int store_fence(struct store_conn *c) _must_check_;

/*
 * Runs one write of the turn; `rc` is what binding its values gave. The first failure ends the
 * turn: SQLite may have rolled back, and a later write would commit alone.
 */
int store_turn_run(struct store *s, sqlite3_stmt *stmt, int rc) _must_check_;
/* Reads the last row's sequence and hash. */
int store_audit_load_head(struct store *s, struct store_conn *c) _must_check_;
/*
 * Within the claim's transaction, as the leader that it makes: signs the checkpoint anew if the
 * install was `before` until now, or if it was signed before signatures had the install.
 */
int store_checkpoint_settle(struct store *s, struct store_conn *c, const char *before) _must_check_;
/* What the trigger on DELETE FROM audit calls: without it a connection can't remove a row. */
int store_audit_prune_functions(struct store *s, struct store_conn *c) _must_check_;
