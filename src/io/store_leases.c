/* Leases in the store, and the removal of what is over for good. */
#include <errno.h>

#include "base/err.h"
#include "base/log.h"
#include "io/store_columns.h"
#include "io/store_internal.h"
#include "io/store_rows.h"

static int store_lease_write(struct store *s, enum store_stmt which, const struct lease_row *row)
{
	sqlite3_stmt *stmt = store_get(&s->turn, which);
	int rc = stmt ? store_columns_bind(&store_table_lease, stmt, row) : SQLITE_OK;

	return store_turn_run(s, stmt, rc);
}

/* An active lease is new as a rule, an ended one is there as a rule. */
int store_put_lease(struct store *s, const struct lease_row *row)
{
	static const enum store_stmt tries[][2] = { { STORE_LEASE_SET, STORE_LEASE_PUT },
						    { STORE_LEASE_PUT, STORE_LEASE_SET } };
	struct lease_row next = *row;
	int r = 0;

	next.term = s->term;
	for (size_t i = 0; i < ARRAY_SIZE(tries[0]); i++) {
		r = store_lease_write(s, tries[row->state == LEASE_ACTIVE][i], &next);
		if (r != 0 || sqlite3_changes(s->turn.db) > 0)
			return r;
	}
	log_error("state: lease %s is active and has an end, or the other way round", row->id);
	s->turn_result = err_origin(-EPROTO);
	return s->turn_result;
}

int store_each_lease(struct store *s, store_lease_fn each, void *userdata)
{
	sqlite3_stmt *stmt = store_get(&s->turn, STORE_LEASES);
	struct lease_row row;
	bool more = true;
	int r = 0;

	while (r == 0) {
		r = store_next(&s->turn, stmt, &store_table_lease, &row, &more);
		if (r != 0 || !more)
			break;
		r = each(&row, userdata);
	}
	store_done(stmt);
	return r;
}

static int store_prune_with(struct store *s, enum store_stmt which, int64_t before_ms, size_t limit)
{
	sqlite3_stmt *stmt = store_get(&s->turn, which);
	int rc = stmt ? sqlite3_bind_int64(stmt, 1, before_ms) : SQLITE_OK;

	if (stmt && rc == SQLITE_OK)
		rc = sqlite3_bind_int64(stmt, 2, (sqlite3_int64)limit);
	return store_turn_run(s, stmt, rc);
}

int store_prune(struct store *s, int64_t before_ms, size_t limit)
{
	int r = store_prune_with(s, STORE_LEASE_PRUNE, before_ms, limit);

	return r != 0 ? r : store_prune_with(s, STORE_KEY_PRUNE, before_ms, limit);
}
