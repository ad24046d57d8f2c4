/*
 * The audit in the store: appended to, read, never changed. The chain's head is kept in memory,
 * since no one but the leader appends.
 */
#include <string.h>

#include "base/buf.h"
#include "base/crypt.h"
#include "base/err.h"
#include "io/store_columns.h"
#include "io/store_internal.h"
#include "io/store_rows.h"

int store_audit_load_head(struct store *s, struct store_conn *c)
{
	sqlite3_stmt *stmt = store_get(c, STORE_AUDIT_HEAD);
	int rc = store_step(c, stmt);
	int r = store_result(c, rc, "audit head");
	struct store_head head = { 0 };

	if (rc == SQLITE_ROW) {
		head.sequence = (uint64_t)sqlite3_column_int64(stmt, 0);
		if (sqlite3_column_bytes(stmt, 1) == HASH_SIZE)
			memcpy(head.hash, sqlite3_column_blob(stmt, 1), HASH_SIZE);
	}
	store_done(stmt);
	if (r == 0)
		s->head = head;
	return r;
}

/* The row as the next one of the chain. */
static int store_audit_chain(struct store *s, struct audit_row *row)
{
	_cleanup_(buf_deinit) struct buf b = BUF_INIT(sizeof(*row) * 2);
	int r;

	row->sequence = s->head.sequence + 1;
	r = audit_encode(row, &b);
	if (r < 0)
		return err_origin(r);
	keyring_chain(s->keyring, s->head.hash, b.data, b.len, row->hash);
	return 0;
}

int store_append_audit(struct store *s, struct audit_row *row)
{
	sqlite3_stmt *stmt = store_get(&s->turn, STORE_AUDIT_PUT);
	struct audit_row next = *row;
	int rc = SQLITE_OK;
	int r;

	next.term = s->term;
	r = store_audit_chain(s, &next);
	if (r < 0)
		return r;
	if (stmt)
		rc = store_columns_bind(&store_table_audit, stmt, &next);
	r = store_turn_run(s, stmt, rc);
	if (r != 0)
		return r;
	s->head.sequence = next.sequence;
	memcpy(s->head.hash, next.hash, HASH_SIZE);
	*row = next;
	return 0;
}

int store_each_audit(struct store *s, uint64_t after, size_t limit, store_audit_fn each,
		     void *userdata)
{
	sqlite3_stmt *stmt = store_get(&s->turn, STORE_AUDIT_AFTER);
	struct audit_row row;
	bool more = true;
	int r = 0;

	if (stmt) {
		(void)sqlite3_bind_int64(stmt, 1, (sqlite3_int64)after); /* by misuse only */
		(void)sqlite3_bind_int64(stmt, 2, (sqlite3_int64)limit);
	}
	while (r == 0) {
		r = store_next(&s->turn, stmt, &store_table_audit, &row, &more);
		if (r != 0 || !more)
			break;
		r = each(&row, userdata);
	}
	store_done(stmt);
	return r;
}

void store_audit_head(const struct store *s, uint64_t *ret_sequence, uint8_t ret_hash[HASH_SIZE])
{
	*ret_sequence = s->head.sequence;
	memcpy(ret_hash, s->head.hash, HASH_SIZE);
}
