/*
 * The audit by what its rows say. A full scan, bounded by numbers of rows: about 10^6 a second, and
 * the write path pays nothing for it.
 */
#include "io/store_find.h"

#include "io/store_columns.h"
#include "io/store_internal.h"

/* The first row after `after`; 0 if there is none. What was pruned is not worth stepping through.
 */
static int store_find_next(struct store *s, uint64_t after, uint64_t *ret)
{
	sqlite3_stmt *stmt = store_get(&s->turn, STORE_AUDIT_NEXT);
	int rc, r;

	if (stmt)
		(void)sqlite3_bind_int64(stmt, 1, (sqlite3_int64)after); /* by misuse only */
	rc = store_step(&s->turn, stmt);
	r = store_result(&s->turn, rc, "audit next");
	if (rc == SQLITE_ROW)
		*ret = (uint64_t)sqlite3_column_int64(stmt, 0);
	store_done(stmt);
	return r;
}

/* Binding fails for want of memory, or by misuse. */
static int store_find_bind(sqlite3_stmt *stmt, const struct audit_filter *f, uint64_t after,
			   uint64_t last)
{
	const int64_t numbers[] = { f->since_ms, f->until_ms, f->uid };
	const char *const texts[] = { f->unit,	f->profile, f->lease,
				      f->event, f->outcome, f->key_tag };
	int rc = sqlite3_bind_int64(stmt, 1, (sqlite3_int64)after);

	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int64(stmt, 2, (sqlite3_int64)last);
	for (size_t i = 0; i < ARRAY_SIZE(numbers) && rc == SQLITE_OK; i++)
		if (numbers[i] >= 0)
			rc = sqlite3_bind_int64(stmt, 3 + (int)i, numbers[i]);
	for (size_t i = 0; i < ARRAY_SIZE(texts) && rc == SQLITE_OK; i++)
		if (texts[i])
			rc = sqlite3_bind_text(stmt, 6 + (int)i, texts[i], -1, SQLITE_STATIC);
	return rc;
}

int store_find_audit(struct store *s, const struct audit_filter *filter, struct audit_scan *scan,
		     store_found_fn found, void *userdata)
{
	sqlite3_stmt *stmt = store_get(&s->turn, STORE_AUDIT_FIND);
	uint64_t first = 0, last;
	struct audit_row row;
	bool more = true;
	int r = store_find_next(s, scan->at, &first);

	if (r != 0 || scan->rows == 0)
		return r;
	if (first == 0 || first > scan->until) {
		scan->at = MAX_OF(scan->at, scan->until);
		return 0;
	}
	last = MIN_OF(first - 1 + scan->rows, scan->until);
	if (stmt)
		r = store_result(&s->turn, store_find_bind(stmt, filter, scan->at, last), "bind");
	while (r == 0) {
		r = store_next(&s->turn, stmt, &store_table_audit, &row, &more);
		if (r != 0 || !more)
			break;
		if (found(&row, userdata))
			continue;
		last = row.sequence;
		break;
	}
	store_done(stmt);
	if (r != 0)
		return r;
	scan->rows -= (size_t)(last - first + 1);
	scan->at = last;
	return 0;
}
