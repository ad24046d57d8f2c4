/*
 * The prune of the audit. Its statements are prepared when they are needed, which is seldom, and
 * not kept.
 */
#include "io/store_audit_prune.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "core/audit.h"
#include "core/audit_chain.h"
#include "io/store_audit_row.h"
#include "io/store_columns.h"
#include "io/store_internal.h"

static void store_finalize(sqlite3_stmt **stmt)
{
	(void)sqlite3_finalize(*stmt); /* repeats the last step's failure */
}

/* NULL if it can't be prepared: store_step() yields why. */
static sqlite3_stmt *store_prepare_once(struct store *s, const char *sql)
{
	sqlite3_stmt *stmt = NULL;

	(void)sqlite3_prepare_v2(s->turn.db, sql, -1, &stmt, NULL); /* NULL says it */
	return stmt;
}

/* --- the checkpoint --- */

int store_audit_checkpoint(struct store *s, struct audit_checkpoint *ret)
{
	struct audit_checkpoint row;
	int r = store_checkpoint_read(&s->turn, &row);

	if (r != 0)
		return r;
	if (row.sequence != 0 && !checkpoint_is_genuine(s->keyring, s->install, &row)) {
		log_error("the audit's checkpoint at %llu was not signed by this broker",
			  (unsigned long long)row.sequence);
		return STORE_E_BROKEN;
	}
	*ret = row;
	return 0;
}

/* Of the mac alone, by the claim's connection, outside of any turn. */
static int store_put_checkpoint_mac(struct store_conn *c, const struct audit_checkpoint *checkpoint)
{
	_cleanup_(store_finalize) sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(c->db, "UPDATE audit_checkpoint SET mac = ?", -1, &stmt, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_bind_blob(stmt, 1, checkpoint->mac, HASH_SIZE, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	return store_result(c, rc, "audit_checkpoint");
}

int store_checkpoint_settle(struct store *s, struct store_conn *c, const char *before)
{
	struct audit_checkpoint row, next;
	int r = store_checkpoint_read(c, &row);

	if (r != 0 || row.sequence == 0)
		return r;
	next = row;
	checkpoint_sign(s->keyring, s->install, &next);
	/* what nobody signed stays as it is, for a verification to find */
	if (memcmp(next.mac, row.mac, HASH_SIZE) == 0 ||
	    !checkpoint_is_genuine(s->keyring, before, &row))
		return 0;
	return store_put_checkpoint_mac(c, &next);
}

static int store_put_checkpoint(struct store *s, const struct audit_checkpoint *c)
{
	_cleanup_(store_finalize) sqlite3_stmt *stmt = store_prepare_once(
		s, "REPLACE INTO audit_checkpoint (id, sequence, count, pruned_at_ms, hash, mac)"
		   " VALUES (1, ?, ?, ?, ?, ?)");
	int rc = SQLITE_OK;

	if (stmt) {
		/* fail by misuse only, but for the last */
		(void)sqlite3_bind_int64(stmt, 1, (sqlite3_int64)c->sequence);
		(void)sqlite3_bind_int64(stmt, 2, (sqlite3_int64)c->count);
		(void)sqlite3_bind_int64(stmt, 3, c->pruned_at_ms);
		(void)sqlite3_bind_blob(stmt, 4, c->hash, HASH_SIZE, SQLITE_STATIC);
		rc = sqlite3_bind_blob(stmt, 5, c->mac, HASH_SIZE, SQLITE_STATIC);
	}
	return store_turn_run(s, stmt, rc);
}

/* What the trigger on DELETE asks of the checkpoint: is it signed by this very store? */
static void store_sql_genuine(sqlite3_context *context, int n, sqlite3_value **values)
{
	const struct store *s = sqlite3_user_data(context);
	struct audit_checkpoint row = { .sequence = (uint64_t)sqlite3_value_int64(values[0]),
					.count = (uint64_t)sqlite3_value_int64(values[1]),
					.pruned_at_ms = sqlite3_value_int64(values[2]) };
	bool ok = n == 5 && sqlite3_value_bytes(values[3]) == HASH_SIZE &&
		  sqlite3_value_bytes(values[4]) == HASH_SIZE;

	if (ok) {
		memcpy(row.hash, sqlite3_value_blob(values[3]), HASH_SIZE);
		memcpy(row.mac, sqlite3_value_blob(values[4]), HASH_SIZE);
		ok = checkpoint_is_genuine(s->keyring, s->install, &row);
	}
	sqlite3_result_int(context, ok);
}

int store_audit_prune_functions(struct store *s, struct store_conn *c)
{
	/* innocuous, since triggers may call nothing else under trusted_schema = off */
	int rc = sqlite3_create_function_v2(c->db, "keybroker_genuine", 5,
					    SQLITE_UTF8 | SQLITE_INNOCUOUS | SQLITE_DETERMINISTIC,
					    s, store_sql_genuine, NULL, NULL, NULL);

	return store_result(c, rc, "keybroker_genuine");
}

/* --- the rows --- */

/* Goes through what would be removed; the chain then ends at the last of it. */
static int store_prune_walk(struct store *s, const struct store_audit_prune *what, struct chain *c)
{
	_cleanup_(store_finalize) sqlite3_stmt *stmt = NULL;
	_cleanup_(freep) char *columns = store_columns_text(&store_table_audit);
	_cleanup_(freep) char *sql =
		xasprintf("SELECT %s FROM audit ORDER BY sequence LIMIT ?", columns);
	struct audit_row row;
	bool more = true;
	int r = 0;

	stmt = store_prepare_once(s, sql);
	if (stmt)
		(void)sqlite3_bind_int64(stmt, 1, (sqlite3_int64)what->limit); /* by misuse only */
	while (r == 0) {
		r = store_audit_next(&s->turn, stmt, &row, &more);
		if (r == STORE_E_BROKEN)
			chain_add_impossible(c, (int64_t)row.sequence);
		if (r != 0 || !more || row.wall_ms >= what->before_ms ||
		    row.sequence > what->through)
			break;
		(void)chain_add(c, &row); /* asked at the end */
	}
	return r == 0 && !chain_is_good(c) ? STORE_E_BROKEN : r;
}

static int store_prune_delete(struct store *s, uint64_t through)
{
	_cleanup_(store_finalize) sqlite3_stmt *stmt =
		store_prepare_once(s, "DELETE FROM audit WHERE sequence <= ?");
	int rc = stmt ? sqlite3_bind_int64(stmt, 1, (sqlite3_int64)through) : SQLITE_OK;

	return store_turn_run(s, stmt, rc);
}

int store_audit_prune(struct store *s, const struct store_audit_prune *what,
		      struct audit_checkpoint *ret, size_t *ret_removed)
{
	struct store_audit_prune bounded = *what;
	struct audit_checkpoint checkpoint;
	struct chain_verdict verdict;
	char why[CHAIN_TEXT_MAX];
	struct chain c;
	int r = store_audit_checkpoint(s, &checkpoint);

	if (r != 0)
		return r;
	/* the newest row says where the chain goes on */
	if (bounded.through >= s->head.sequence)
		bounded.through = s->head.sequence ? s->head.sequence - 1 : 0;
	chain_start(&c, s->keyring, checkpoint.sequence, checkpoint.hash);
	r = store_prune_walk(s, &bounded, &c);
	if (r == STORE_E_BROKEN) {
		chain_end(&c, &verdict);
		chain_text(&verdict, why);
		log_error("the audit is not pruned, since row %lld does not verify: %s",
			  (long long)verdict.sequence, why);
	}
	if (r != 0)
		return r;
	*ret_removed = c.n_rows;
	if (c.n_rows > 0) {
		checkpoint.sequence = c.last;
		checkpoint.count += c.n_rows;
		checkpoint.pruned_at_ms = clock_now().wall_ms;
		memcpy(checkpoint.hash, c.hash, HASH_SIZE);
		checkpoint_sign(s->keyring, s->install, &checkpoint);
		r = store_put_checkpoint(s, &checkpoint);
		r = r != 0 ? r : store_prune_delete(s, checkpoint.sequence);
	}
	if (r == 0)
		*ret = checkpoint;
	return r;
}

int store_audit_wall(struct store *s, uint64_t sequence, int64_t *ret_ms)
{
	_cleanup_(store_finalize) sqlite3_stmt *stmt =
		store_prepare_once(s, "SELECT wall_ms FROM audit WHERE sequence = ?");
	int rc;

	if (stmt)
		(void)sqlite3_bind_int64(stmt, 1, (sqlite3_int64)sequence); /* by misuse only */
	rc = store_step(&s->turn, stmt);
	if (rc == SQLITE_ROW)
		*ret_ms = sqlite3_column_int64(stmt, 0);
	return rc == SQLITE_DONE ? -ENOENT : store_result(&s->turn, rc, "audit");
}

/* --- what was exported --- */

int store_exported_read(struct store_conn *c, uint64_t *ret)
{
	char text[32];
	int r = store_meta_read(c, STORE_EXPORTED, text, sizeof(text));

	if (r == 0)
		*ret = strtoull(text, NULL, 10);
	return r;
}

int store_audit_exported(struct store *s, uint64_t *ret)
{
	return store_exported_read(&s->turn, ret);
}

int store_set_audit_exported(struct store *s, uint64_t sequence)
{
	sqlite3_stmt *stmt = store_get_for(&s->turn, STORE_META_PUT, STORE_EXPORTED);
	char text[32];
	int rc = SQLITE_OK;

	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)sequence);
	if (stmt)
		rc = sqlite3_bind_text(stmt, 2, text, -1, SQLITE_STATIC);
	return store_turn_run(s, stmt, rc);
}
