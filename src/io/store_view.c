/*
 * The audit, read from beside the daemon. Owns one read-only connection; the -shm file is SQLite's
 * alone.
 */
#include "io/store_view.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/err.h"
#include "io/store_audit_row.h"
#include "io/store_columns.h"
#include "io/store_internal.h"

#define STORE_VIEW_BUSY_MS 5000 /* a recovery of the log, by whoever comes first */

struct store_view {
	struct store_conn c;
	sqlite3_stmt *rows;
	long version; /* of the schema */
};

int store_view_find(const char *dir)
{
	_cleanup_(freep) char *path = xasprintf("%s/" STORE_FILE, dir);
	struct stat st;

	if (stat(path, &st) < 0)
		return errno == ENOTDIR ? -ENOENT : -errno;
	return S_ISREG(st.st_mode) ? 0 : -ENOENT;
}

static int store_view_connect(struct store_view *v, const char *dir)
{
	const int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_NOMUTEX |
			  SQLITE_OPEN_EXRESCODE;
	_cleanup_(freep) char *path = xasprintf("%s/" STORE_FILE, dir);
	int rc = sqlite3_open_v2(path, &v->c.db, flags, NULL);

	if (rc == SQLITE_OK)
		rc = store_conn_options(v->c.db);
	if (rc == SQLITE_OK)
		rc = sqlite3_busy_timeout(v->c.db, STORE_VIEW_BUSY_MS);
	if (rc != SQLITE_OK)
		return store_result(&v->c, rc, path);
	return store_exec(&v->c, "PRAGMA query_only = on; PRAGMA wal_autocheckpoint = 0;"
				 "PRAGMA temp_store = memory; PRAGMA mmap_size = 0;"
				 "PRAGMA cell_size_check = on");
}

static int store_view_prepare(struct store_view *v)
{
	_cleanup_(freep) char *columns = store_columns_text(&store_table_audit);
	_cleanup_(freep) char *sql = xasprintf("SELECT %s FROM audit WHERE sequence BETWEEN ? AND ?"
					       " ORDER BY sequence LIMIT %d",
					       columns, STORE_PAGE_ROWS);

	return store_result(&v->c, sqlite3_prepare_v2(v->c.db, sql, -1, &v->rows, NULL), sql);
}

int store_view_open(struct store_view **ret, const char *dir)
{
	_cleanup_(store_view_freep) struct store_view *v = xcalloc(1, sizeof(*v));
	_cleanup_(freep) char *resolved = NULL;
	int r = store_view_find(dir);

	if (r < 0)
		return r;
	resolved = realpath(dir, NULL); /* SQLITE_OPEN_NOFOLLOW refuses links above too */
	if (!resolved)
		return err_origin(-errno);
	r = store_view_connect(v, resolved);
	if (r == 0)
		r = store_schema_known(&v->c, &v->version);
	if (r == 0 && v->version == 0)
		return -ENOENT; /* somebody is just making it */
	if (r == 0)
		r = store_view_prepare(v);
	if (r != 0)
		return r == -EBADMSG ? STORE_E_CORRUPT : r;
	*ret = TAKE(v);
	return 0;
}

void store_view_free(struct store_view *v)
{
	if (!v)
		return;
	(void)sqlite3_finalize(v->rows); /* repeats the last step's failure */
	store_conn_close(&v->c);
	free(v);
}

int store_view_identity(struct store_view *v, char ret_fingerprint[33],
			char ret_install[STORE_INSTALL_SIZE])
{
	int r = store_meta_read(&v->c, "seal", ret_fingerprint, 33);

	return r != 0 ? r : store_meta_read(&v->c, "install", ret_install, STORE_INSTALL_SIZE);
}

static int store_view_value(struct store_view *v, const char *sql, sqlite3_stmt **ret)
{
	int rc = sqlite3_prepare_v2(v->c.db, sql, -1, ret, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(*ret);
	return store_result(&v->c, rc, sql);
}

int store_view_last(struct store_view *v, int64_t *ret)
{
	sqlite3_stmt *stmt = NULL;
	int r = store_view_value(v, "SELECT coalesce(max(sequence), 0) FROM audit", &stmt);

	if (r == 0)
		*ret = sqlite3_column_int64(stmt, 0);
	(void)sqlite3_finalize(stmt); /* repeats the failure */
	return r;
}

int store_view_exported(struct store_view *v, uint64_t *ret)
{
	return store_exported_read(&v->c, ret);
}

int store_view_guards(struct store_view *v, char *ret, size_t size)
{
	_cleanup_(store_guards_freep) struct store_guards *guards = NULL;
	int r = store_guards_new(&guards, v->version);

	return r != 0 ? r : store_guards_bad(guards, &v->c, ret, size);
}

static int store_view_rows(struct store_view *v, struct store_page *page)
{
	bool more = true;
	int r = 0;

	while (r == 0 && page->n < STORE_PAGE_ROWS) {
		r = store_audit_next(&v->c, v->rows, &page->rows[page->n], &more);
		if (r != 0 || !more)
			break;
		page->n++;
	}
	if (r != STORE_E_BROKEN)
		return r;
	page->is_broken = true;
	page->broken = (int64_t)page->rows[page->n].sequence;
	return 0;
}

int store_view_read(struct store_view *v, int64_t from, int64_t to, struct store_page *ret)
{
	int r = store_exec(&v->c, "BEGIN");

	ret->n = 0;
	ret->is_broken = false;
	ret->checkpoint = (struct audit_checkpoint){ 0 };
	if (r != 0)
		return r;
	(void)sqlite3_bind_int64(v->rows, 1, from); /* by misuse only */
	(void)sqlite3_bind_int64(v->rows, 2, to);
	/* with the rows in one transaction, so that a prune is seen whole or not at all */
	if (v->version >= STORE_SCHEMA_CHECKPOINT)
		r = store_checkpoint_read(&v->c, &ret->checkpoint);
	if (r == 0)
		r = store_view_rows(v, ret);
	store_done(v->rows);
	store_conn_rollback(&v->c);
	return r == -EBADMSG ? STORE_E_CORRUPT : r;
}

int store_view_check(struct store_view *v, char ret[256])
{
	sqlite3_stmt *stmt = NULL;
	int r = store_view_value(v, "PRAGMA quick_check('audit')", &stmt);
	const char *text = r == 0 ? (const char *)sqlite3_column_text(stmt, 0) : NULL;

	(void)snprintf(ret, 256, "%s", text ? text : "");
	(void)sqlite3_finalize(stmt); /* repeats the failure */
	return r == -EBADMSG ? STORE_E_CORRUPT : r;
}
