/* Registration and beats, by a connection of their own that does not sync. */
#include "io/store_instance.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "io/store_columns.h"
#include "io/store_internal.h"
#include "io/store_rows.h"

/* WAL_WRITE_LOCK's byte in the -shm file: part of SQLite's file format ("WAL-Index locks"). */
#define STORE_WRITE_LOCK_BYTE 120

#define STORE_RELOADS "reloads" /* in meta */

static struct store_conn *store_light(struct store *s)
{
	if (s->light.db)
		return &s->light;
	if (store_conn_open(&s->light, s, "NORMAL") == 0)
		(void)sqlite3_wal_hook(s->light.db, store_wal_hook,
				       s); /* beats make the log grow */
	else
		store_conn_close(&s->light); /* logged */
	return &s->light;
}

/* Nothing that anybody was promised is written here, so a failure of the disk is no reason to end:
 * the next turn's commit meets it, if it lasts. */
static int store_light_run(struct store_conn *c, sqlite3_stmt *stmt)
{
	int r;

	if (c->store && store_has_moved(c->store)) {
		store_done(stmt);
		return STORE_E_MOVED;
	}
	r = c->db ? store_run(c, stmt) : -EIO;
	return r == -EIO ? STORE_E_BUSY : r;
}

int store_register(struct store *s, const struct leader *self)
{
	struct store_conn *c = store_light(s);
	sqlite3_stmt *stmt = c->db ? store_get(c, STORE_INSTANCE_PUT) : NULL;
	int rc;

	if (stmt && (rc = store_columns_bind(&store_table_instance, stmt, self)) != SQLITE_OK)
		return store_result(c, rc, "instance");
	return store_light_run(c, stmt);
}

static sqlite3_stmt *store_light_for(struct store_conn *c, enum store_stmt which, const char *text)
{
	return c->db ? store_get_for(c, which, text) : NULL;
}

int store_unregister(struct store *s, const char *holder)
{
	struct store_conn *c = store_light(s);

	return store_light_run(c, store_light_for(c, STORE_INSTANCE_DROP, holder));
}

int store_beat_instance(struct store *s, const char *holder)
{
	struct store_conn *c = store_light(s);
	int r = store_light_run(c, store_light_for(c, STORE_INSTANCE_BEAT, holder));

	if (r != 0)
		return r;
	return sqlite3_changes(c->db) == 1 ? 0 : -ENOENT;
}

int store_beat_leader(struct store *s)
{
	struct store_conn *c = store_light(s);
	int r = store_light_run(c, c->db ? store_get(c, STORE_BEAT) : NULL);

	/* a full disk must not look like a leader that hangs: the reserve is for this too */
	if (r == STORE_E_FULL && !s->is_short) {
		(void)store_note_full(s, r); /* yields r */
		r = store_light_run(c, store_get(c, STORE_BEAT));
	}
	if (r != 0)
		return r;
	return sqlite3_changes(c->db) == 1 ? 0 : STORE_E_FENCED;
}

int store_each_instance(struct store *s, store_instance_fn each, void *userdata)
{
	struct store_conn *c = store_light(s);
	sqlite3_stmt *stmt = c->db ? store_get(c, STORE_INSTANCES) : NULL;
	struct leader row = { 0 };
	bool more = true;
	int r = c->db ? 0 : -EIO;

	while (r == 0) {
		r = store_next(c, stmt, &store_table_instance, &row, &more);
		if (r != 0 || !more)
			break;
		r = each(&row, userdata);
	}
	store_done(stmt);
	return r;
}

int store_read_leader(struct store *s, struct leader *ret)
{
	struct store_conn *c = store_light(s);

	return c->db ? store_leader_read(c, ret) : -EIO;
}

int store_count_reload(struct store *s)
{
	return store_turn_run(s, store_get_for(&s->turn, STORE_META_COUNT, STORE_RELOADS),
			      SQLITE_OK);
}

int64_t store_reloads(struct store *s)
{
	struct store_conn *c = store_light(s);
	char text[24];

	if (!c->db || store_meta_read(c, STORE_RELOADS, text, sizeof(text)) != 0)
		return -EIO;
	return strtoll(text, NULL, 10);
}

/* "1: POSIX  ADVISORY  WRITE 4711 00:1f:5678 120 120" */
static bool store_lock_line(const char *line, const struct stat *shm, pid_t *ret)
{
	uint64_t inode, start;
	int pid;

	if (sscanf(line, "%*d: POSIX %*s WRITE %d %*x:%*x:%" SCNu64 " %" SCNu64, &pid, &inode,
		   &start) != 3)
		return false;
	/* not the device: of a btrfs subvolume stat() tells another one */
	if (inode != shm->st_ino || start != STORE_WRITE_LOCK_BYTE)
		return false;
	*ret = pid;
	return true;
}

static void store_fclose(FILE **f)
{
	if (*f)
		(void)fclose(*f); /* only read from */
}

pid_t store_lock_holder(const struct store *s)
{
	_cleanup_(freep) char *path = xasprintf("%s/" STORE_FILE "-shm", s->dir);
	_cleanup_(store_fclose) FILE *f = fopen("/proc/locks", "re");
	char line[256];
	struct stat shm;
	pid_t pid = 0;

	if (!f || stat(path, &shm) < 0)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (store_lock_line(line, &shm, &pid))
			return pid > 0 ? pid : 0;
	return 0;
}
