/*
 * The state as a whole: opening it, and the turn's transaction. Owns both connections. Never writes
 * outside a transaction that has proved the term.
 */
#include "io/store.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "io/store_internal.h"
#include "io/store_rows.h"

int store_wal_hook(void *userdata, sqlite3 *db, const char *name, int n_pages)
{
	struct store *s = userdata;

	(void)db;
	(void)name;
	if (n_pages < s->wal_pages)
		s->wal_tried = 0; /* it has begun anew */
	s->wal_pages = n_pages;
	return SQLITE_OK;
}

static int store_open_connections(struct store *s)
{
	const char *synchronous = s->durability == DURABILITY_POWER_LOSS ? "FULL" : "NORMAL";
	int r = store_conn_open(&s->turn, s, synchronous);

	if (r == 0)
		r = store_conn_open(&s->full, s, "FULL");
	if (r == 0)
		r = store_audit_prune_functions(s, &s->turn);
	if (r == 0)
		r = store_audit_prune_functions(s, &s->full);
	if (r == 0) /* store_touch() gives all room of a moved log back */
		r = store_exec(&s->full, "PRAGMA journal_size_limit = 0");
	if (r != 0)
		return r;
	(void)sqlite3_wal_hook(s->turn.db, store_wal_hook, s); /* yields the hook before */
	(void)sqlite3_wal_hook(s->full.db, store_wal_hook, s);
	return 0;
}

/* After the first read, which opens them: they stay as long as any connection is open, since none
 * of ours removes them (NO_CKPT_ON_CLOSE) and another program's is not the last to close. */
static void store_learn_place(struct store *s)
{
	s->is_placed = true;
	for (size_t i = 0; i < STORE_COMPANIONS; i++)
		s->is_placed &= store_dir_companion(s->dir_fd, i, &s->companions[i]);
}

static int store_open_database(struct store *s)
{
	int r = store_open_connections(s);

	if (r == 0)
		r = store_schema_open(s);
	if (r == 0)
		r = store_audit_load_head(s, &s->turn);
	if (r == 0) {
		store_learn_place(s);
	} else {
		store_conn_close(&s->turn);
		store_conn_close(&s->full);
	}
	return r == -EBADMSG ? STORE_E_CORRUPT : r; /* logged: broken pages, or no database */
}

int store_open(struct store **ret, const char *dir, enum durability durability,
	       const struct keyring *keyring)
{
	const int64_t deadline = clock_monotonic_nsec() + STORE_OPEN_WAIT_MS * 1000000LL;
	_cleanup_(store_freep) struct store *s = xcalloc(1, sizeof(*s));
	int r;

	/* one thread: locks around each allocation, and counts of them, would be for nothing. Too
	 * late when this process has used SQLite before, and then all works the same */
	(void)sqlite3_config(SQLITE_CONFIG_SINGLETHREAD);
	(void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
	s->keyring = keyring;
	s->durability = durability;
	s->dir_fd = -1;
	s->wal_pages = -1;
	r = store_dir_open(dir, &s->dir, &s->dir_fd);
	if (r == 0)
		r = store_dir_files(s->dir, s->dir_fd);
	if (r != 0)
		return r;
	/* SQLite doesn't wait for some of the locks of a creation and of a recovery */
	while ((r = store_open_database(s)) == STORE_E_BUSY && clock_monotonic_nsec() < deadline)
		(void)usleep(5000); /* ended early by a signal, the next try is only sooner */
	if (r != 0)
		return r;
	*ret = TAKE(s);
	return 0;
}

void store_free(struct store *s)
{
	if (!s)
		return;
	store_conn_close(&s->turn); /* an open transaction is rolled back by it */
	store_conn_close(&s->full);
	store_conn_close(&s->light);
	store_guards_free(s->guards);
	fd_close(&s->dir_fd);
	free(s->dir);
	free(s);
}

const char *store_install(const struct store *s)
{
	return s->install;
}

uint64_t store_term(const struct store *s)
{
	return s->term;
}

bool store_is_short(const struct store *s)
{
	return s->is_short;
}

/* --- the turn --- */

int store_fence(struct store_conn *c)
{
	sqlite3_stmt *stmt = store_get(c, STORE_FENCE);
	int rc = store_step(c, stmt);
	int r = rc == SQLITE_DONE ? STORE_E_FENCED : store_result(c, rc, "fence");

	store_done(stmt);
	return r;
}

int store_check_term(struct store *s)
{
	return store_has_moved(s) ? STORE_E_MOVED : store_fence(&s->turn);
}

int store_note_full(struct store *s, int r)
{
	if (r == STORE_E_FULL && !s->is_short) {
		store_reserve_give_up(s->dir_fd);
		s->is_short = true;
	}
	return r;
}

int store_turn_run(struct store *s, sqlite3_stmt *stmt, int rc)
{
	int r = s->turn_result;

	assert(s->in_turn);
	if (r == 0 && rc != SQLITE_OK)
		r = store_result(&s->turn, rc, "bind");
	if (r == 0)
		r = store_run(&s->turn, stmt);
	else
		store_done(stmt);
	s->turn_result = r;
	return store_note_full(s, r);
}

static const char *store_moved_name(const struct store *s)
{
	struct store_file now;
	int moved = 0;

	if (sqlite3_file_control(s->turn.db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK &&
	    moved)
		return STORE_FILE;
	for (size_t i = 0; i < STORE_COMPANIONS && s->is_placed; i++)
		if (store_dir_companion(s->dir_fd, i, &now) &&
		    (now.ino != s->companions[i].ino || now.dev != s->companions[i].dev))
			return store_dir_companion_name(i);
	return NULL;
}

/* An open file that nobody finds by its name any more: what is committed to it is lost. */
bool store_has_moved(struct store *s)
{
	const char *name = s->has_moved ? NULL : store_moved_name(s);

	if (name)
		log_error("%s/%s was removed or replaced", s->dir, name);
	s->has_moved |= name != NULL;
	return s->has_moved;
}

int store_check_place(struct store *s)
{
	return store_has_moved(s) ? STORE_E_MOVED : 0;
}

int store_begin(struct store *s)
{
	int r;

	assert(!s->in_turn);
	r = store_conn_begin(&s->turn);
	if (r != 0)
		return store_note_full(s, r);
	r = store_fence(&s->turn);
	if (r != 0) {
		store_conn_rollback(&s->turn);
		return r;
	}
	s->in_turn = true;
	s->turn_result = 0;
	s->committed = s->head;
	return 0;
}

void store_rollback(struct store *s)
{
	if (!s->in_turn)
		return;
	store_conn_rollback(&s->turn);
	s->in_turn = false;
	s->head = s->committed;
}

int store_commit(struct store *s)
{
	int r = s->turn_result;

	assert(s->in_turn);
	/* a turn of which something failed is never committed in part */
	if (r == 0)
		r = store_conn_commit(&s->turn);
	if (r != 0) {
		store_rollback(s);
		return store_note_full(s, r);
	}
	s->in_turn = false;
	s->has_unsynced = s->durability == DURABILITY_CRASH;
	return 0;
}

int store_touch(struct store *s)
{
	int r = store_conn_begin(&s->full);

	if (r != 0)
		return store_note_full(s, r);
	r = store_fence(&s->full);
	/* a changed row: the commit of an empty transaction does not sync */
	if (r == 0)
		r = store_run(&s->full, store_get_for(&s->full, STORE_META_COUNT, "sync"));
	if (r == 0)
		r = store_conn_commit(&s->full);
	else
		store_conn_rollback(&s->full);
	if (r == 0)
		s->has_unsynced = false;
	return store_note_full(s, r);
}

int store_sync(struct store *s)
{
	assert(!s->in_turn);
	return s->has_unsynced ? store_touch(s) : 0;
}
