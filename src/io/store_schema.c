/*
 * The schema and the identity of the state: creation, migrations, and the checks that come before
 * anything is written. A file of a newer version, of another seal key or with damage stays as it
 * is.
 */
#include "io/store_internal.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/crypt.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"

/*
 * The fence: a row is written in the term that leads, or not at all; and a connection without the
 * collation can't write. A function's call could fail halfway, so SQLite would keep a copy of each
 * page that the statement touches: rows that come by the thousand do without, and FAIL instead of
 * ABORT for the same reason (the first row that fails is the first that is tried).
 */
#define STORE_FENCED(table, event)                                                             \
	"CREATE TRIGGER " table "_fence_" event " BEFORE " event " ON " table                  \
	" WHEN NEW.term IS NOT (SELECT term FROM leader WHERE holder <> '' COLLATE keybroker)" \
	" BEGIN SELECT RAISE(FAIL, 'fenced'); END;"
/* For what goes, which may be of any term, and what has no term. */
#define STORE_FENCED_CALL(table, event)                                       \
	"CREATE TRIGGER " table "_fence_" event " BEFORE " event " ON " table \
	" WHEN NOT EXISTS (SELECT 1 FROM leader"                              \
	" WHERE term = keybroker_term() AND holder = keybroker_holder())"     \
	" BEGIN SELECT RAISE(ABORT, 'fenced'); END;"
/* The audit is for ever, for a leader too. */
#define STORE_FORBIDDEN(table, event)                                      \
	"CREATE TRIGGER " table "_no_" event " BEFORE " event " ON " table \
	" BEGIN SELECT RAISE(ABORT, '" table " rows are never changed'); END;"

/* Row n brings version n to n + 1; a released row never changes. */
static const char *const store_migrations[] = {
	"CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;"

	"CREATE TABLE leader (id INTEGER PRIMARY KEY CHECK (id = 1), term INTEGER NOT NULL,"
	" pid INTEGER NOT NULL, start_time INTEGER NOT NULL, boot_id TEXT NOT NULL,"
	" pidns INTEGER NOT NULL, holder TEXT NOT NULL, instance TEXT NOT NULL,"
	" beat INTEGER NOT NULL) STRICT;"

	"CREATE TABLE instance (holder TEXT PRIMARY KEY, instance TEXT NOT NULL,"
	" pid INTEGER NOT NULL, start_time INTEGER NOT NULL, boot_id TEXT NOT NULL,"
	" pidns INTEGER NOT NULL, beat INTEGER NOT NULL)"
	" STRICT, WITHOUT ROWID;"

	"CREATE TABLE key (id TEXT PRIMARY KEY, profile TEXT NOT NULL, mode TEXT NOT NULL,"
	" state TEXT NOT NULL, source TEXT NOT NULL, generation INTEGER NOT NULL,"
	" hash TEXT NOT NULL, alias TEXT NOT NULL, team_id TEXT NOT NULL, uid INTEGER NOT NULL,"
	" request_id TEXT NOT NULL, term INTEGER NOT NULL, created_at_ms INTEGER NOT NULL,"
	" expires_at_ms INTEGER NOT NULL, changed_at_ms INTEGER NOT NULL,"
	" delete_at_ms INTEGER NOT NULL, secret BLOB) STRICT, WITHOUT ROWID;"
	"CREATE INDEX key_kept ON key (profile) WHERE state <> 'deleted';"
	"CREATE INDEX key_hash ON key (hash) WHERE hash <> '';"
	"CREATE INDEX key_generation ON key (profile, generation) WHERE mode = 'shared';"
	"CREATE INDEX key_past ON key (changed_at_ms) WHERE state = 'deleted';"

	/* In the order of their beginning, those that ended apart: a turn's new leases are on one
	 * page, whatever their ids, and what a start reads stands together. The primary key's
	 * columns come first: SQLite 3.40's quick_check takes any other order for damage. */
	"CREATE TABLE lease ("
	" ended_at_ms INTEGER NOT NULL CHECK ((ended_at_ms = 0) = (state = 'active')),"
	" granted_at_ms INTEGER NOT NULL, id TEXT NOT NULL, key_id TEXT NOT NULL,"
	" profile TEXT NOT NULL, rule TEXT NOT NULL, state TEXT NOT NULL, bind TEXT NOT NULL,"
	" refreshable INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL,"
	" pid INTEGER NOT NULL, holder_pid INTEGER NOT NULL, holder_start INTEGER NOT NULL,"
	" boot_id TEXT NOT NULL, request_id TEXT NOT NULL, term INTEGER NOT NULL,"
	" ends_at_ms INTEGER NOT NULL, PRIMARY KEY (ended_at_ms, granted_at_ms, id))"
	" STRICT, WITHOUT ROWID;"

	"CREATE TABLE audit (sequence INTEGER PRIMARY KEY, hash BLOB NOT NULL,"
	" wall_ms INTEGER NOT NULL, boot_ms INTEGER NOT NULL, term INTEGER NOT NULL,"
	" instance TEXT NOT NULL, event TEXT NOT NULL, outcome TEXT NOT NULL,"
	" rule TEXT NOT NULL, profile TEXT NOT NULL, lease TEXT NOT NULL, uid INTEGER NOT NULL,"
	" gid INTEGER NOT NULL, pid INTEGER NOT NULL, start_time INTEGER NOT NULL,"
	" unit TEXT NOT NULL, exe TEXT NOT NULL, key_tag TEXT NOT NULL, detail TEXT NOT NULL)"
	" STRICT;"

	STORE_FENCED("key", "INSERT") STORE_FENCED("key", "UPDATE")
		STORE_FENCED_CALL("key", "DELETE") STORE_FENCED("lease", "INSERT")
			STORE_FENCED("lease", "UPDATE") STORE_FENCED_CALL("lease", "DELETE")
				STORE_FENCED("audit", "INSERT") STORE_FORBIDDEN("audit", "UPDATE")
					STORE_FORBIDDEN("audit", "DELETE")
	/* also shuts the way round the above by REPLACE */
	"CREATE TRIGGER audit_sequence BEFORE INSERT ON audit"
	" WHEN NEW.sequence IS NOT (SELECT coalesce(max(sequence), 0) + 1 FROM audit)"
	" BEGIN SELECT RAISE(FAIL, 'audit rows have no gaps'); END;",

	/* Rows leave the audit by a prune alone: behind a checkpoint that this store has signed. */
	"CREATE TABLE audit_checkpoint (id INTEGER PRIMARY KEY CHECK (id = 1),"
	" sequence INTEGER NOT NULL, count INTEGER NOT NULL, pruned_at_ms INTEGER NOT NULL,"
	" hash BLOB NOT NULL, mac BLOB NOT NULL) STRICT;"
	"DROP TRIGGER audit_no_DELETE;"
	"CREATE TRIGGER audit_no_DELETE BEFORE DELETE ON audit WHEN NOT EXISTS"
	" (SELECT 1 FROM audit_checkpoint WHERE sequence >= OLD.sequence"
	" AND keybroker_genuine(sequence, count, pruned_at_ms, hash, mac))"
	" BEGIN SELECT RAISE(ABORT, 'audit rows are never changed'); END;" STORE_FENCED_CALL(
		"audit", "DELETE") STORE_FENCED_CALL("audit_checkpoint", "INSERT")
		STORE_FENCED_CALL("audit_checkpoint", "UPDATE")
			STORE_FENCED_CALL("audit_checkpoint", "DELETE"),

	"ALTER TABLE key ADD COLUMN dead INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE key ADD COLUMN settings TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE key ADD COLUMN at_once INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE lease ADD COLUMN ends_boot_ms INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE lease ADD COLUMN pidns INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE lease ADD COLUMN listen TEXT NOT NULL DEFAULT '';",
};

enum { STORE_SCHEMA = ARRAY_SIZE(store_migrations) };

/* The tables that are checked at each start; the audit may be large and has its own chain. */
static const char *const store_small_tables[] = { "meta", "leader", "instance", "key", "lease" };

/* The first column of the first row; "" if there is none. */
static int store_read_text(struct store_conn *c, const char *sql, char *ret, size_t size)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(c->db, sql, -1, &stmt, NULL);
	int r;

	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	ret[0] = '\0';
	if (rc == SQLITE_ROW && sqlite3_column_text(stmt, 0))
		(void)snprintf(ret, size, "%s", (const char *)sqlite3_column_text(stmt, 0));
	r = store_result(c, rc, sql);
	(void)sqlite3_finalize(stmt); /* repeats the failure */
	return r;
}

/* 0: an empty file. */
static int store_schema_version(struct store_conn *c, long *ret)
{
	char text[32];
	int r = store_read_text(c, "SELECT count(*) FROM sqlite_schema", text, sizeof(text));

	if (r != 0)
		return r;
	*ret = 0;
	if (strcmp(text, "0") == 0)
		return 0;
	r = store_read_text(c, "SELECT 1 FROM sqlite_schema WHERE name = 'meta'", text,
			    sizeof(text));
	if (r == 0 && strcmp(text, "1") == 0)
		r = store_meta_read(c, "schema", text, sizeof(text));
	if (r != 0)
		return r;
	*ret = strtol(text, NULL, 10);
	if (*ret > 0)
		return 0;
	log_error("the state is a database of some other program");
	return STORE_E_CORRUPT;
}

int store_schema_known(struct store_conn *c, long *ret)
{
	long version;
	int r = store_schema_version(c, &version);

	if (r != 0)
		return r;
	if (version > STORE_SCHEMA) {
		log_error("the state has schema %ld, and this program knows %d", version,
			  (int)STORE_SCHEMA);
		return STORE_E_NEWER;
	}
	*ret = version;
	return 0;
}

static int store_schema_check_tables(struct store_conn *c)
{
	char sql[64], answer[256];
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(store_small_tables); i++) {
		(void)snprintf(sql, sizeof(sql), "PRAGMA quick_check('%s')", store_small_tables[i]);
		r = store_read_text(c, sql, answer, sizeof(answer));
		if (r != 0)
			return r;
		if (strcmp(answer, "ok") != 0) {
			log_error("the state is damaged, table %s: %s", store_small_tables[i],
				  answer);
			return STORE_E_CORRUPT;
		}
	}
	return 0;
}

/* Before anything is written: is this a state that we may serve? */
static int store_schema_check(struct store *s, long *ret_version)
{
	char fingerprint[33], stored[64];
	long version;
	int r = store_schema_known(&s->turn, &version);

	if (r != 0)
		return r;
	*ret_version = version;
	if (version == 0)
		return 0;
	keyring_fingerprint(s->keyring, fingerprint);
	r = store_meta_read(&s->turn, "seal", stored, sizeof(stored));
	if (r != 0)
		return r;
	if (strcmp(stored, fingerprint) != 0)
		return STORE_E_SEAL;
	return store_schema_check_tables(&s->turn);
}

int store_schema_steps(struct store_conn *c, long from, long to)
{
	int r = 0;

	for (long version = from; version < to && r == 0; version++)
		r = store_exec(c, store_migrations[version]);
	return r;
}

int store_schema_migrate(struct store_conn *c)
{
	char text[16];
	long version;
	int r = store_schema_version(c, &version);

	if (r == 0 && version > STORE_SCHEMA)
		return STORE_E_NEWER;
	if (r != 0 || version == STORE_SCHEMA)
		return r;
	r = store_schema_steps(c, version, STORE_SCHEMA);
	if (r != 0)
		return r;
	(void)snprintf(text, sizeof(text), "%d", (int)STORE_SCHEMA);
	return store_meta_write(c, "schema", text);
}

/* --- the install --- */

static void store_install_identity(struct store *s)
{
	_cleanup_(freep) char *text = NULL;
	_cleanup_(fd_close) int fd = open("/etc/machine-id", O_RDONLY | O_CLOEXEC);
	char machine[33] = "";
	ssize_t n = fd < 0 ? 0 : read(fd, machine, sizeof(machine) - 1);

	machine[n > 0 ? n : 0] = '\0';
	/* before the first boot of an image it may be empty or a word (machine-id(5)) */
	s->has_machine = strspn(machine, "0123456789abcdef") == sizeof(machine) - 1;
	text = xasprintf("%s\n%u\n%s", machine, (unsigned)geteuid(), s->dir);
	crypt_sha256_hex(text, strlen(text), s->identity);
}

/*
 * The same state place on the same host is the same install, so that a state which was deleted
 * finds its keys upstream again. The host's name tells machines from one image apart; a machine
 * without an id (many containers) is told apart by chance: two installs of one name would sweep
 * each other's keys.
 */
static void store_install_draw(const struct store *s, char ret[STORE_INSTALL_SIZE])
{
	_cleanup_(freep) char *text = NULL;
	char host[HOST_NAME_MAX + 1] = "", id[ID_SIZE], hash[SHA256_HEX_SIZE];

	(void)gethostname(host, sizeof(host) - 1); /* "" will do */
	text = xasprintf("%s\n%s", s->identity, host);
	crypt_sha256_hex(text, strlen(text), hash);
	crypt_draw_id(id);
	(void)snprintf(ret, STORE_INSTALL_SIZE, "%.8s%.16s", s->identity,
		       s->has_machine ? hash : id);
}

int store_install_settle(struct store *s, struct store_conn *c)
{
	char identity[SHA256_HEX_SIZE], install[STORE_INSTALL_SIZE], before[STORE_INSTALL_SIZE];
	int r = store_meta_read(c, "identity", identity, sizeof(identity));

	if (r == 0)
		r = store_meta_read(c, "install", install, sizeof(install));
	if (r != 0)
		return r;
	memcpy(before, install, sizeof(before));
	if (install[0] == '\0' || strcmp(identity, s->identity) != 0) {
		store_install_draw(s, install);
		r = store_meta_write(c, "identity", s->identity);
		if (r == 0)
			r = store_meta_write(c, "install", install);
		if (r != 0)
			return r;
	}
	memcpy(s->install, install, sizeof(s->install));
	return store_checkpoint_settle(s, c, before);
}

/* --- opening --- */

/* Into an empty file. Another process may be at it too: then its state is there, and is ours. */
static int store_schema_create(struct store *s)
{
	struct store_conn *c = &s->full;
	char fingerprint[33];
	long version;
	int r = store_conn_begin(c);

	if (r != 0)
		return r;
	keyring_fingerprint(s->keyring, fingerprint);
	r = store_schema_version(c, &version);
	if (r == 0 && version == 0) {
		r = store_schema_migrate(c);
		if (r == 0)
			r = store_meta_write(c, "seal", fingerprint);
		if (r == 0)
			r = store_install_settle(s, c);
		if (r == 0)
			return store_conn_commit(c);
	}
	store_conn_rollback(c);
	return r;
}

int store_schema_open(struct store *s)
{
	char mode[16];
	long version;
	int r;

	store_install_identity(s);
	r = s->guards ? 0 : store_guards_new(&s->guards, STORE_SCHEMA); /* a claim shall not wait */
	if (r == 0)
		r = store_schema_check(s, &version);
	if (r == 0 && version == 0) {
		r = store_read_text(&s->full, "PRAGMA journal_mode = WAL", mode, sizeof(mode));
		if (r == 0 && strcmp(mode, "wal") != 0) {
			log_error("the state's file system does not allow a write-ahead log");
			return STORE_E_ACCESS;
		}
		if (r == 0)
			r = store_schema_create(s);
		if (r == 0)
			r = store_schema_check(s, &version);
	}
	if (r != 0)
		return r;
	return store_meta_read(&s->turn, "install", s->install, sizeof(s->install));
}
