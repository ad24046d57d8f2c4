/*
 * One SQLite connection: its settings, its prepared statements and what its result codes mean. Owns
 * the sqlite3 handle. Never checkpoints, and never opens the -shm file: closing that would drop
 * SQLite's locks.
 */
#include "io/store_conn.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/log.h"
#include "io/store_columns.h"
#include "io/store_internal.h"

/* The statement is `head`, the table's columns if there is one, and `tail`. */
struct store_sql {
	const char *head;
	const struct store_table *table;
	const char *tail;
};

static const struct store_sql store_sql[STORE_N_STMTS] = {
	[STORE_BEGIN] = { "BEGIN IMMEDIATE", NULL, "" },
	[STORE_COMMIT] = { "COMMIT", NULL, "" },
	[STORE_ROLLBACK] = { "ROLLBACK", NULL, "" },
	[STORE_FENCE] = { "SELECT 1 FROM leader WHERE term = keybroker_term()"
			  " AND holder = keybroker_holder()",
			  NULL, "" },
	[STORE_LEADER_GET] = { "SELECT", &store_table_leader, "FROM leader" },
	[STORE_LEADER_PUT] = { "REPLACE INTO leader (", &store_table_leader,
			       ", id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1)" },
	[STORE_LEADER_VACATE] = { "UPDATE leader SET pid = 0, holder = ''"
				  " WHERE term = keybroker_term() AND holder = keybroker_holder()",
				  NULL, "" },
	[STORE_BEAT] = { "UPDATE leader SET beat = beat + 1"
			 " WHERE term = keybroker_term() AND holder = keybroker_holder()",
			 NULL, "" },
	[STORE_INSTANCE_PUT] = { "REPLACE INTO instance (", &store_table_instance,
				 ") VALUES (?, ?, ?, ?, ?, ?, ?)" },
	[STORE_INSTANCE_BEAT] = { "UPDATE instance SET beat = beat + 1 WHERE holder = ?", NULL,
				  "" },
	[STORE_INSTANCE_DROP] = { "DELETE FROM instance WHERE holder = ?", NULL, "" },
	[STORE_INSTANCES] = { "SELECT", &store_table_instance, "FROM instance" },
	[STORE_META_GET] = { "SELECT value FROM meta WHERE name = ?", NULL, "" },
	[STORE_META_PUT] = { "REPLACE INTO meta (name, value) VALUES (?, ?)", NULL, "" },
	[STORE_META_COUNT] = { "INSERT INTO meta (name, value) VALUES (?, '1') ON CONFLICT (name)"
			       " DO UPDATE SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT)",
			       NULL, "" },
	[STORE_KEY_PUT] = { "REPLACE INTO key (", &store_table_key,
			    ", secret) VALUES (?, ?, ?, ?4, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,"
			    " CASE WHEN ?4 = 'deleted' THEN NULL"
			    " ELSE coalesce(?20, (SELECT secret FROM key WHERE id = ?1)) END)" },
	[STORE_KEY_SECRET] = { "SELECT secret FROM key WHERE id = ?", NULL, "" },
	[STORE_KEYS] = { "SELECT", &store_table_key, "FROM key WHERE state <> 'deleted'" },
	[STORE_KEYS_ALL] = { "SELECT", &store_table_key, "FROM key" },
	[STORE_KEY_BY_HASH] = { "SELECT", &store_table_key,
				"FROM key WHERE hash = ? AND hash <> ''"
				" ORDER BY state = 'deleted', created_at_ms DESC LIMIT 1" },
	[STORE_GENERATION] = { "SELECT coalesce(max(generation), 0) FROM key"
			       " WHERE mode = 'shared' AND profile = ?",
			       NULL, "" },
	[STORE_KEY_LEASED] = { "SELECT EXISTS (SELECT 1 FROM lease WHERE key_id = ?)", NULL, "" },
	[STORE_KEY_PRUNE] = { "DELETE FROM key WHERE id IN (SELECT id FROM key"
			      " WHERE state = 'deleted' AND changed_at_ms < ?1"
			      /* a profile's highest generation is never used again */
			      " AND (mode <> 'shared' OR generation < (SELECT max(generation)"
			      " FROM key newer WHERE newer.mode = 'shared'"
			      " AND newer.profile = key.profile))"
			      " LIMIT ?2)",
			      NULL, "" },
	[STORE_LEASE_PUT] = { "INSERT OR IGNORE INTO lease (", &store_table_lease,
			      ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)" },
	/* in the place of an active lease, or of one that ended then */
	[STORE_LEASE_SET] = { "UPDATE OR FAIL lease SET (", &store_table_lease,
			      ") = (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
			      " WHERE ended_at_ms IN (0, ?18) AND granted_at_ms = ?16 AND id = ?1" },
	[STORE_LEASES] = { "SELECT", &store_table_lease, "FROM lease WHERE ended_at_ms = 0" },
	[STORE_LEASE_PRUNE] = { "DELETE FROM lease WHERE (ended_at_ms, granted_at_ms, id) IN"
				" (SELECT ended_at_ms, granted_at_ms, id FROM lease"
				" WHERE ended_at_ms > 0 AND ended_at_ms < ?1 LIMIT ?2)",
				NULL, "" },
	[STORE_AUDIT_PUT] = { "INSERT OR FAIL INTO audit (", &store_table_audit,
			      ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)" },
	[STORE_AUDIT_AFTER] = { "SELECT", &store_table_audit,
				"FROM audit WHERE sequence > ? ORDER BY sequence LIMIT ?" },
	[STORE_AUDIT_NEXT] = { "SELECT min(sequence) FROM audit WHERE sequence > ?", NULL, "" },
	/* a filter that is NULL lets all through; no index: it would cost each row that is written
	 */
	[STORE_AUDIT_FIND] = { "SELECT", &store_table_audit,
			       "FROM audit WHERE sequence > ?1 AND sequence <= ?2"
			       " AND (?3 IS NULL OR wall_ms >= ?3) AND (?4 IS NULL OR wall_ms < ?4)"
			       " AND (?5 IS NULL OR uid = ?5) AND (?6 IS NULL OR"
			       " instr('/' || unit || '/', '/' || ?6 || '/'))"
			       " AND (?7 IS NULL OR profile = ?7) AND (?8 IS NULL OR lease = ?8)"
			       " AND (?9 IS NULL OR event = ?9) AND (?10 IS NULL OR outcome = ?10)"
			       " AND (?11 IS NULL OR key_tag = ?11) ORDER BY sequence" },
	[STORE_AUDIT_HEAD] = { "SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1",
			       NULL, "" },
};

/* Who this connection writes for. */
static void store_sql_term(sqlite3_context *context, int n, sqlite3_value **values)
{
	const struct store *s = sqlite3_user_data(context);

	(void)n;
	(void)values;
	sqlite3_result_int64(context, (sqlite3_int64)s->term);
}

static void store_sql_holder(sqlite3_context *context, int n, sqlite3_value **values)
{
	const struct store *s = sqlite3_user_data(context);

	(void)n;
	(void)values;
	sqlite3_result_text(context, s->holder, -1, SQLITE_TRANSIENT);
}

/* By bytes, as ever: what the fence's triggers name, so that other programs can't write. */
static int store_sql_collate(void *userdata, int n_a, const void *a, int n_b, const void *b)
{
	int r = memcmp(a, b, (size_t)MIN_OF(n_a, n_b));

	(void)userdata;
	return r != 0 ? r : n_a - n_b;
}

static int store_conn_functions(sqlite3 *db, struct store *s)
{
	/* innocuous, since triggers may call nothing else under trusted_schema = off; not
	 * deterministic, since the term changes */
	const int flags = SQLITE_UTF8 | SQLITE_INNOCUOUS;
	int rc = sqlite3_create_function_v2(db, "keybroker_term", 0, flags, s, store_sql_term, NULL,
					    NULL, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_create_function_v2(db, "keybroker_holder", 0, flags, s,
						store_sql_holder, NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_create_collation_v2(db, "keybroker", SQLITE_UTF8, NULL,
						 store_sql_collate, NULL);
	return rc;
}

int store_conn_options(sqlite3 *db)
{
	static const struct {
		int option, value;
	} options[] = {
		/* only store_checkpoint() checkpoints: see there */
		{ SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1 },
		{ SQLITE_DBCONFIG_DEFENSIVE, 1 },
		{ SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0 },
		{ SQLITE_DBCONFIG_DQS_DML, 0 },
		{ SQLITE_DBCONFIG_DQS_DDL, 0 },
		{ SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0 },
		{ SQLITE_DBCONFIG_ENABLE_TRIGGER, 1 },
	};
	int rc = SQLITE_OK;

	for (size_t i = 0; i < ARRAY_SIZE(options) && rc == SQLITE_OK; i++)
		rc = sqlite3_db_config(db, options[i].option, options[i].value, NULL);
	return rc;
}

/* Settings of the connection alone; some of them read the file's schema, none writes. */
static int store_conn_pragmas(struct store_conn *c, const char *synchronous)
{
	char sql[512];

	(void)snprintf(sql, sizeof(sql),
		       "PRAGMA synchronous = %s; PRAGMA wal_autocheckpoint = 0;"
		       "PRAGMA secure_delete = on; PRAGMA temp_store = memory;"
		       "PRAGMA cache_size = -256; PRAGMA recursive_triggers = on;"
		       "PRAGMA foreign_keys = off; PRAGMA mmap_size = 0;"
		       /* after a burst a restarted WAL shrinks to this */
		       "PRAGMA journal_size_limit = 4194304;",
		       synchronous);
	return store_result(c, sqlite3_exec(c->db, sql, NULL, NULL, NULL), "PRAGMA");
}

int store_conn_open(struct store_conn *c, struct store *s, const char *synchronous)
{
	const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_NOMUTEX |
			  SQLITE_OPEN_EXRESCODE;
	_cleanup_(freep) char *path = xasprintf("%s/" STORE_FILE, s->dir);
	int rc;

	c->store = s;
	rc = sqlite3_open_v2(path, &c->db, flags, NULL);
	if (rc == SQLITE_OK)
		rc = store_conn_options(c->db);
	if (rc == SQLITE_OK)
		rc = sqlite3_busy_timeout(c->db, STORE_BUSY_MS);
	if (rc == SQLITE_OK)
		rc = store_conn_functions(c->db, s);
	if (rc != SQLITE_OK)
		return store_result(c, rc, path);
	return store_conn_pragmas(c, synchronous);
}

void store_conn_close(struct store_conn *c)
{
	for (size_t i = 0; i < STORE_N_STMTS; i++)
		(void)sqlite3_finalize(c->stmts[i]); /* repeats the last step's failure */
	(void)sqlite3_close(c->db);		     /* nothing is open any more: can't fail */
	*c = (struct store_conn){ 0 };
}

/* --- result codes --- */

static bool store_errno_no_room(int e)
{
	return e == ENOSPC || e == EDQUOT || e == EFBIG; /* EFBIG: RLIMIT_FSIZE */
}

/* An IOERR before COMMIT: nothing of the transaction is valid on the disk. */
static int store_result_io(struct store_conn *c, int rc, const char *what)
{
	int e = sqlite3_system_errno(c->db);

	if (rc != SQLITE_IOERR_FSYNC && rc != SQLITE_IOERR_DIR_FSYNC && store_errno_no_room(e))
		return STORE_E_FULL;
	if (e == EROFS)
		return STORE_E_READONLY;
	log_error("state: %s: %s (%d, %s)", what, sqlite3_errmsg(c->db), rc, strerror(e));
	return err_origin(-EIO);
}

static int store_result_cantopen(struct store_conn *c, const char *what)
{
	int e = sqlite3_system_errno(c->db);

	if (store_errno_no_room(e))
		return STORE_E_FULL;
	if (e == EROFS || e == EACCES || e == EPERM)
		return STORE_E_READONLY;
	log_error("state: %s: %s (%s)", what, sqlite3_errmsg(c->db), strerror(e));
	return err_origin(e > 0 ? -e : -EIO);
}

int store_result(struct store_conn *c, int rc, const char *what)
{
	switch (rc & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
	case SQLITE_PROTOCOL: /* lost a race for the WAL's locks too often */
		return STORE_E_BUSY;
	case SQLITE_FULL:
		return STORE_E_FULL;
	case SQLITE_READONLY:
		return STORE_E_READONLY;
	case SQLITE_IOERR:
		return store_result_io(c, rc, what);
	case SQLITE_CANTOPEN:
		return store_result_cantopen(c, what);
	case SQLITE_NOMEM:
		return err_origin(-ENOMEM);
	}
	if (rc == SQLITE_CONSTRAINT_TRIGGER && strcmp(sqlite3_errmsg(c->db), "fenced") == 0)
		return STORE_E_FENCED;
	log_error("state: %s: %s (%d)", what, sqlite3_errmsg(c->db), rc);
	if ((rc & 0xff) == SQLITE_CORRUPT || (rc & 0xff) == SQLITE_NOTADB)
		return err_origin(-EBADMSG);
	return err_origin(-EPROTO);
}

/* --- statements --- */

static int store_prepare(struct store_conn *c, enum store_stmt which)
{
	const struct store_sql *sql = &store_sql[which];
	_cleanup_(freep) char *columns = sql->table ? store_columns_text(sql->table) : xstrdup("");
	_cleanup_(freep) char *text = xasprintf("%s %s %s", sql->head, columns, sql->tail);

	return sqlite3_prepare_v3(c->db, text, -1, SQLITE_PREPARE_PERSISTENT, &c->stmts[which],
				  NULL);
}

sqlite3_stmt *store_get(struct store_conn *c, enum store_stmt which)
{
	if (!c->stmts[which] && store_prepare(c, which) != SQLITE_OK)
		return NULL;
	assert(!sqlite3_stmt_busy(c->stmts[which])); /* no callback runs what called it */
	return c->stmts[which];
}

sqlite3_stmt *store_get_for(struct store_conn *c, enum store_stmt which, const char *text)
{
	sqlite3_stmt *stmt = store_get(c, which);

	if (!stmt || sqlite3_bind_text(stmt, 1, text, -1, SQLITE_STATIC) != SQLITE_OK)
		return NULL;
	return stmt;
}

int store_step(struct store_conn *c, sqlite3_stmt *stmt)
{
	return stmt ? sqlite3_step(stmt) : sqlite3_extended_errcode(c->db);
}

void store_done(sqlite3_stmt *stmt)
{
	if (!stmt)
		return;
	/* the code of a failed step comes back here, and was handled */
	(void)sqlite3_reset(stmt);
	(void)sqlite3_clear_bindings(stmt);
}

int store_run(struct store_conn *c, sqlite3_stmt *stmt)
{
	int r = store_result(c, store_step(c, stmt), stmt ? sqlite3_sql(stmt) : "prepare");

	store_done(stmt);
	return r;
}

int store_exec(struct store_conn *c, const char *sql)
{
	return store_result(c, sqlite3_exec(c->db, sql, NULL, NULL, NULL), sql);
}

int store_conn_begin(struct store_conn *c)
{
	/* beside other files of these names somebody else may write without a lock that we see */
	if (c->store && store_has_moved(c->store))
		return STORE_E_MOVED;
	return store_run(c, store_get(c, STORE_BEGIN));
}

void store_conn_rollback(struct store_conn *c)
{
	/* SQLite rolls back by itself after some failures; what fails here leaves no commit
	 * either: recovery ignores frames without one */
	if (!sqlite3_get_autocommit(c->db))
		(void)!store_run(c, store_get(c, STORE_ROLLBACK));
}

/* The errno of the log's last failed write or sync: SQLite 3.40 doesn't pass COMMIT's on. */
static int store_log_errno(struct store_conn *c)
{
	sqlite3_file *f = NULL;
	int e = 0;

	if (sqlite3_file_control(c->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &f) != SQLITE_OK ||
	    !f || !f->pMethods)
		return 0;
	return f->pMethods->xFileControl(f, SQLITE_FCNTL_LAST_ERRNO, &e) == SQLITE_OK ? e : 0;
}

/*
 * Of the IOERRs within COMMIT only a write that found no room, or a file system that had turned
 * read-only, is known to have committed nothing: the commit mark is in the last frame, which is not
 * valid unless written whole. A failed fsync, and a wal-index that can't grow (after the frames
 * were written), leave it open.
 */
static int store_result_commit(struct store_conn *c, int rc)
{
	int e;

	if ((rc & 0xff) != SQLITE_IOERR)
		return store_result(c, rc, "COMMIT");
	e = store_log_errno(c);
	if (rc == SQLITE_IOERR_WRITE && store_errno_no_room(e))
		return STORE_E_FULL;
	if (rc == SQLITE_IOERR_WRITE && e == EROFS)
		return STORE_E_READONLY;
	log_error("state: COMMIT: %s (%d, %s)", sqlite3_errstr(rc), rc, strerror(e));
	return err_origin(-EIO);
}

int store_conn_commit(struct store_conn *c)
{
	sqlite3_stmt *stmt = store_get(c, STORE_COMMIT);
	int r = store_result_commit(c, store_step(c, stmt));

	store_done(stmt);
	if (r != 0)
		store_conn_rollback(c);
	/* what was committed to a file that has lost its name is lost with this process */
	if (r == 0 && c->store && store_has_moved(c->store))
		r = STORE_E_MOVED;
	return r;
}

int store_next(struct store_conn *c, sqlite3_stmt *stmt, const struct store_table *table, void *row,
	       bool *ret_more)
{
	int rc = store_step(c, stmt);

	*ret_more = rc == SQLITE_ROW;
	if (rc == SQLITE_ROW)
		return store_columns_read(table, stmt, row);
	return store_result(c, rc, stmt ? sqlite3_sql(stmt) : "prepare");
}

/* --- meta --- */

int store_meta_read(struct store_conn *c, const char *name, char *ret, size_t size)
{
	sqlite3_stmt *stmt = store_get_for(c, STORE_META_GET, name);
	int rc = store_step(c, stmt);
	int r = store_result(c, rc, "meta");

	ret[0] = '\0';
	if (rc == SQLITE_ROW && (size_t)sqlite3_column_bytes(stmt, 0) < size)
		(void)snprintf(ret, size, "%s", (const char *)sqlite3_column_text(stmt, 0));
	store_done(stmt);
	return r;
}

int store_meta_write(struct store_conn *c, const char *name, const char *value)
{
	sqlite3_stmt *stmt = store_get_for(c, STORE_META_PUT, name);

	if (stmt && sqlite3_bind_text(stmt, 2, value, -1, SQLITE_STATIC) != SQLITE_OK)
		stmt = NULL;
	return store_run(c, stmt);
}
