/*
 * The leader row: taking it, giving it up. SQLite is the only arbiter; whether a process is dead is
 * the caller's to say.
 */
#include "io/store_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "io/store_columns.h"

int store_leader_read(struct store_conn *c, struct leader *ret)
{
	sqlite3_stmt *stmt = store_get(c, STORE_LEADER_GET);
	struct leader row = { 0 };
	bool more;
	int r = store_next(c, stmt, &store_table_leader, &row, &more);

	store_done(stmt);
	if (r == 0)
		*ret = row;
	return r;
}

static int store_leader_write(struct store_conn *c, const struct leader *row)
{
	sqlite3_stmt *stmt = store_get(c, STORE_LEADER_PUT);
	int rc;

	if (stmt && (rc = store_columns_bind(&store_table_leader, stmt, row)) != SQLITE_OK)
		return store_result(c, rc, "leader");
	return store_run(c, stmt);
}

static bool store_leader_gone(const struct leader *row, const struct leader *self,
			      store_dead_fn dead, void *userdata)
{
	return row->pid == 0 || strcmp(row->boot_id, self->boot_id) != 0 || dead(row, userdata);
}

/* All that a new leader needs, in the transaction that makes it one. */
static int store_claim_write(struct store *s, const struct leader *self)
{
	struct store_conn *c = &s->full;
	int r = store_leader_write(c, self);

	s->term = self->term; /* for the fence of what follows */
	memcpy(s->holder, self->holder, sizeof(s->holder));
	if (r == 0)
		r = store_install_settle(s, c);
	/* the leader before may have written since we opened; from now on no one else does */
	if (r == 0)
		r = store_audit_load_head(s, c);
	return r != 0 ? r : store_tampering_settle(s, c);
}

static int store_claim_once(struct store *s, struct leader *self, store_dead_fn dead,
			    void *userdata, struct leader *ret_before)
{
	struct store_conn *c = &s->full;
	const uint64_t term = s->term;
	struct leader row, next = *self;
	int r;

	assert(!s->in_turn);
	r = store_conn_begin(c);
	if (r != 0)
		return r;
	r = store_schema_migrate(c);
	if (r == 0)
		r = store_leader_read(c, &row);
	if (r == 0)
		*ret_before = row;
	if (r == 0 && !store_leader_gone(&row, self, dead, userdata))
		r = STORE_E_LED;
	if (r == 0) {
		next.term = row.term + 1;
		next.beat = 0;
		r = store_claim_write(s, &next);
	}
	if (r == 0)
		r = store_conn_commit(c);
	else
		store_conn_rollback(c);
	if (r != 0) {
		s->term = term; /* the holder alone says nothing */
		return r;
	}
	*self = next;
	if (s->tampering[0])
		log_error("the state was tampered with: %s", s->tampering);
	/* whoever led before may have given it up */
	s->is_short = !store_reserve_make(s->dir_fd);
	return 0;
}

/* A full disk does not keep the state without a leader: the reserve is for this too. */
int store_claim(struct store *s, struct leader *self, store_dead_fn dead, void *userdata,
		struct leader *ret_before)
{
	int r = store_claim_once(s, self, dead, userdata, ret_before);

	if (r != STORE_E_FULL || s->is_short)
		return r;
	(void)store_note_full(s, r); /* yields r */
	return store_claim_once(s, self, dead, userdata, ret_before);
}

int store_peek_leader(const char *dir, struct leader *ret)
{
	_cleanup_(freep) char *resolved = realpath(dir, NULL);
	struct store s = { .dir = resolved };
	struct store_conn c = { 0 };
	int r = -ENOENT;

	if (resolved && store_conn_open(&c, &s, "FULL") == 0)
		r = store_leader_read(&c, ret);
	store_conn_close(&c);
	return r == 0 && ret->pid ? 0 : -ENOENT;
}

int store_vacate(struct store *s)
{
	struct store_conn *c = &s->full;
	int r;

	assert(!s->in_turn);
	r = store_conn_begin(c);
	if (r != 0)
		return r;
	/* no row changes if another leads already: then there is nothing to give up */
	r = store_run(c, store_get(c, STORE_LEADER_VACATE));
	if (r != 0) {
		store_conn_rollback(c);
		return r;
	}
	r = store_conn_commit(c);
	if (r == 0)
		s->term = 0;
	return r;
}
