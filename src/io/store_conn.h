/*
 * One SQLite connection of the store: its cached statements, and SQLite's result codes as outcomes.
 * Only io/store*.c and their tests include this.
 */
#pragma once

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/macros.h"

struct store;

/* Every statement, prepared at its first use and kept as long as its connection. */
enum store_stmt {
	STORE_BEGIN,
	STORE_COMMIT,
	STORE_ROLLBACK,
	STORE_FENCE,
	STORE_LEADER_GET,
	STORE_LEADER_PUT,
	STORE_LEADER_VACATE,
	STORE_BEAT,
	STORE_INSTANCE_PUT,
	STORE_INSTANCE_BEAT,
	STORE_INSTANCE_DROP,
	STORE_INSTANCES,
	STORE_META_GET,
	STORE_META_PUT,
	STORE_META_COUNT,
	STORE_KEY_PUT,
	STORE_KEY_SECRET,
	STORE_KEYS,
	STORE_KEYS_ALL,
	STORE_KEY_BY_HASH,
	STORE_GENERATION,
	STORE_KEY_LEASED,
	STORE_KEY_PRUNE,
	STORE_LEASE_PUT,
	STORE_LEASE_SET,
	STORE_LEASES,
	STORE_LEASE_PRUNE,
	STORE_AUDIT_PUT,
	STORE_AUDIT_AFTER,
	STORE_AUDIT_NEXT,
	STORE_AUDIT_FIND,
	STORE_AUDIT_HEAD,
};
enum { STORE_N_STMTS = STORE_AUDIT_HEAD + 1 };

struct store_table;

struct store_conn {
	sqlite3 *db;
	struct store *store; /* whose it is; NULL: nobody's, a reader's beside the daemon */
	sqlite3_stmt *stmts[STORE_N_STMTS];
};

int store_conn_open(struct store_conn *c, struct store *s, const char *synchronous) _must_check_;
void store_conn_close(struct store_conn *c);
/* What every connection to a state has: it never checkpoints, and trusts no schema. An SQLite code.
 */
int store_conn_options(sqlite3 *db) _must_check_;
/* The statement, ready to be bound. NULL if it can't be prepared: store_step() yields why. */
sqlite3_stmt *store_get(struct store_conn *c, enum store_stmt which);
/* The same with `text` as its first parameter, which must outlive the step. */
sqlite3_stmt *store_get_for(struct store_conn *c, enum store_stmt which, const char *text);
/* One step; an SQLite code. */
int store_step(struct store_conn *c, sqlite3_stmt *stmt) _must_check_;
/*
 * What an SQLite result code means to callers: 0, an outcome, or -errno (logged here). `what` names
 * the statement for the log.
 */
int store_result(struct store_conn *c, int rc, const char *what) _must_check_;
/* Steps a bound statement that yields no rows, and resets it. */
int store_run(struct store_conn *c, sqlite3_stmt *stmt) _must_check_;
int store_exec(struct store_conn *c, const char *sql) _must_check_;
/* Steps to the next row and reads it; `stmt` may be NULL (its preparation failed). */
int store_next(struct store_conn *c, sqlite3_stmt *stmt, const struct store_table *table, void *row,
	       bool *ret_more) _must_check_;
/* Ends a statement and with it its read transaction; takes NULL. */
void store_done(sqlite3_stmt *stmt);
/* BEGIN IMMEDIATE and COMMIT; a failed commit has rolled back. */
int store_conn_begin(struct store_conn *c) _must_check_;
int store_conn_commit(struct store_conn *c) _must_check_;
void store_conn_rollback(struct store_conn *c);
/* One text of the store's own in `meta`; "" if it isn't there or is longer. */
int store_meta_read(struct store_conn *c, const char *name, char *ret, size_t size) _must_check_;
int store_meta_write(struct store_conn *c, const char *name, const char *value) _must_check_;
