/* Room: of the pages by SQLite's own count, of the file system by statvfs. Cheap. */
#include "io/store_space.h"

#include <errno.h>
#include <sys/statvfs.h>

#include "base/err.h"
#include "io/store_internal.h"

int store_space(struct store *s, struct store_space *ret)
{
	/* what a prune freed is used again before the file grows */
	static const char sql[] =
		"SELECT (page_count - freelist_count) * page_size"
		" FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
	struct store_space space = { 0 };
	sqlite3_stmt *stmt = NULL;
	struct statvfs fs;
	int r, rc = sqlite3_prepare_v2(s->turn.db, sql, -1, &stmt, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		space.used = (uint64_t)sqlite3_column_int64(stmt, 0);
	r = store_result(&s->turn, rc, "page_count");
	(void)sqlite3_finalize(stmt); /* repeats the failure */
	if (r != 0)
		return r;
	if (fstatvfs(s->dir_fd, &fs) < 0)
		return err_origin(-errno);
	space.free = (uint64_t)fs.f_bavail * fs.f_frsize;
	space.size = (uint64_t)fs.f_blocks * fs.f_frsize;
	*ret = space;
	return 0;
}
