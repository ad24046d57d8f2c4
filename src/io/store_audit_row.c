/*
 * Reads rows of the audit without mercy: a value that reads as another one than it shows, such as
 * text behind a NUL or a fraction in a column of integers, would be covered by no hash.
 */
#include "io/store_audit_row.h"

#include <string.h>

#include "io/store.h"
#include "io/store_columns.h"

/* Does the column hold exactly what its member can? */
static bool store_audit_is_exact(const struct store_column *column, sqlite3_stmt *stmt, int index)
{
	int type = sqlite3_column_type(stmt, index);

	if (column->type == STORE_BYTES)
		return type == SQLITE_BLOB &&
		       (size_t)sqlite3_column_bytes(stmt, index) == column->size;
	if (column->type != STORE_TEXT)
		return type == SQLITE_INTEGER;
	if (type != SQLITE_TEXT)
		return false;
	const char *text = (const char *)sqlite3_column_text(stmt, index);
	size_t n = (size_t)sqlite3_column_bytes(stmt, index);

	return text && n < column->size && strlen(text) == n;
}

int store_audit_next(struct store_conn *c, sqlite3_stmt *stmt, struct audit_row *row,
		     bool *ret_more)
{
	int rc = store_step(c, stmt);

	*ret_more = rc == SQLITE_ROW;
	if (rc != SQLITE_ROW)
		return store_result(c, rc, "audit");
	audit_init(row);
	row->sequence = (uint64_t)sqlite3_column_int64(stmt, 0);
	for (size_t i = 0; i < store_table_audit.n_columns; i++)
		if (!store_audit_is_exact(&store_table_audit.columns[i], stmt, (int)i))
			return STORE_E_BROKEN;
	return store_columns_read(&store_table_audit, stmt, row);
}

int store_checkpoint_read(struct store_conn *c, struct audit_checkpoint *ret)
{
	struct audit_checkpoint row = { 0 };
	sqlite3_stmt *stmt = NULL;
	int r, rc = sqlite3_prepare_v2(c->db,
				       "SELECT sequence, count, pruned_at_ms, hash, mac"
				       " FROM audit_checkpoint",
				       -1, &stmt, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW) {
		row.sequence = (uint64_t)sqlite3_column_int64(stmt, 0);
		row.count = (uint64_t)sqlite3_column_int64(stmt, 1);
		row.pruned_at_ms = sqlite3_column_int64(stmt, 2);
		/* what has another size is none of ours: zeroes stay, which nobody signed */
		if (sqlite3_column_bytes(stmt, 3) == HASH_SIZE)
			memcpy(row.hash, sqlite3_column_blob(stmt, 3), HASH_SIZE);
		if (sqlite3_column_bytes(stmt, 4) == HASH_SIZE)
			memcpy(row.mac, sqlite3_column_blob(stmt, 4), HASH_SIZE);
	}
	r = store_result(c, rc, "audit checkpoint");
	(void)sqlite3_finalize(stmt); /* repeats the failure */
	if (r == 0)
		*ret = row;
	return r;
}
