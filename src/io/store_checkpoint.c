/*
 * Moving the write-ahead log into the database. SQLite up to 3.51.2 loses pages when a checkpoint
 * runs beside another process's writer that starts the log anew, so no one may write meanwhile.
 * Never any mode but PASSIVE.
 */
#include "io/store_internal.h"

#include <assert.h>

/* `full` holds an empty BEGIN IMMEDIATE: that keeps every writer out. */
static int store_checkpoint_guarded(struct store *s)
{
	int n_log = -1, n_moved = -1;
	int rc = sqlite3_wal_checkpoint_v2(s->turn.db, NULL, SQLITE_CHECKPOINT_PASSIVE, &n_log,
					   &n_moved);
	int r = store_result(&s->turn, rc, "checkpoint");

	/* a reader may have kept the end of it back: then the next call goes on */
	if (r == 0 && n_log == n_moved)
		s->wal_pages = s->wal_tried = 0;
	return r;
}

bool store_log_is_long(const struct store *s)
{
	return s->wal_pages - s->wal_tried >= STORE_LOG_PAGES;
}

static int store_checkpoint_move(struct store *s)
{
	int r;

	s->wal_tried = s->wal_pages; /* what keeps it back now may do so for a while */
	(void)sqlite3_busy_timeout(s->full.db, 0); /* not now is soon enough */
	r = store_conn_begin(&s->full);
	(void)sqlite3_busy_timeout(s->full.db, STORE_BUSY_MS);
	if (r != 0)
		return r;
	r = store_checkpoint_guarded(s);
	store_conn_rollback(&s->full);
	return r;
}

/*
 * The room of the reserve is the checkpoint's first. What is moved still fills the log's file until
 * a write begins it anew: while short nobody else may write, so that takes one of our own.
 */
static int store_checkpoint_short(struct store *s)
{
	int r = store_checkpoint_move(s);

	if (r == 0)
		r = store_touch(s);
	if (r == 0)
		s->is_short = !store_reserve_make(s->dir_fd);
	return r;
}

int store_checkpoint(struct store *s)
{
	assert(!s->in_turn);
	if (s->is_short)
		return store_checkpoint_short(s);
	if (s->wal_pages >= 0 && s->wal_pages < STORE_CHECKPOINT_PAGES)
		return 0;
	return store_checkpoint_move(s);
}
