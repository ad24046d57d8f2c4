/*
 * The triggers that guard the rows: they are what a schema's steps make, word for word. Somebody
 * else's are not ours to judge.
 */
#include "io/store_guard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "io/store_internal.h"

struct store_guard {
	char *name, *sql;
};

struct store_guards {
	size_t n;
	struct store_guard *items;
};

typedef int (*store_guard_fn)(const struct store_guard *guard, void *userdata);

static int store_guards_read(struct store_guards *g, struct store_conn *c)
{
	static const char sql[] = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'";
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(c->db, sql, -1, &stmt, NULL);
	int r;

	while (rc == SQLITE_OK && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		g->items = xrealloc(g->items, g->n + 1, sizeof(*g->items));
		g->items[g->n++] = (struct store_guard){
			xstrdup((const char *)sqlite3_column_text(stmt, 0)),
			xstrdup((const char *)sqlite3_column_text(stmt, 1)),
		};
		rc = SQLITE_OK;
	}
	r = store_result(c, rc, sql);
	(void)sqlite3_finalize(stmt); /* repeats the failure */
	return r;
}

int store_guards_new(struct store_guards **ret, long version)
{
	_cleanup_(store_guards_freep) struct store_guards *g = xcalloc(1, sizeof(*g));
	struct store_conn c = { 0 };
	int r = store_result(&c, sqlite3_open(":memory:", &c.db), ":memory:");

	if (r == 0)
		r = store_schema_steps(&c, 0, version);
	if (r == 0)
		r = store_guards_read(g, &c);
	store_conn_close(&c);
	if (r == 0)
		*ret = TAKE(g);
	return r;
}

void store_guards_free(struct store_guards *g)
{
	if (!g)
		return;
	for (size_t i = 0; i < g->n; i++) {
		free(g->items[i].name);
		free(g->items[i].sql);
	}
	free(g->items);
	free(g);
}

/* Is it there as it must be? Yields store_step()'s code: SQLITE_ROW if so. */
static int store_guard_find(struct store_conn *c, sqlite3_stmt *stmt, const struct store_guard *g)
{
	int rc;

	/* fail without memory only, and then the step finds nothing: it is made anew */
	(void)sqlite3_bind_text(stmt, 1, g->name, -1, SQLITE_STATIC);
	(void)sqlite3_bind_text(stmt, 2, g->sql, -1, SQLITE_STATIC);
	rc = store_step(c, stmt);
	store_done(stmt);
	return rc;
}

static int store_guards_each_bad(const struct store_guards *guards, struct store_conn *c,
				 store_guard_fn each, void *userdata)
{
	static const char sql[] =
		"SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND name = ? AND sql = ?";
	sqlite3_stmt *stmt = NULL;
	int r = store_result(c, sqlite3_prepare_v2(c->db, sql, -1, &stmt, NULL), sql);

	for (size_t i = 0; i < guards->n && r == 0; i++) {
		int rc = store_guard_find(c, stmt, &guards->items[i]);

		r = store_result(c, rc, sql);
		if (rc == SQLITE_DONE)
			r = each(&guards->items[i], userdata);
	}
	(void)sqlite3_finalize(stmt); /* repeats the failure */
	return r;
}

struct store_names {
	struct store_conn *c; /* where they are made anew */
	char *text;
	size_t size;
};

static int store_guard_name(const struct store_guard *guard, void *userdata)
{
	struct store_names *names = userdata;
	size_t n = strlen(names->text);

	(void)snprintf(names->text + n, names->size - n, "%s%s", n ? ", " : "", guard->name);
	return 0;
}

int store_guards_bad(const struct store_guards *guards, struct store_conn *c, char *ret,
		     size_t size)
{
	struct store_names names = { c, ret, size };

	ret[0] = '\0';
	return store_guards_each_bad(guards, c, store_guard_name, &names);
}

static int store_guard_restore(const struct store_guard *guard, void *userdata)
{
	struct store_names *names = userdata;
	_cleanup_(freep) char *sql =
		xasprintf("DROP TRIGGER IF EXISTS %s; %s", guard->name, guard->sql);
	int r = store_exec(names->c, sql);

	return r != 0 ? r : store_guard_name(guard, userdata);
}

/* Rows that were exported were there: none of them goes but from the front, and not the newest. */
static int store_settle_exported(struct store *s, struct store_conn *c, char *ret, size_t size)
{
	uint64_t exported;
	char text[24];
	int r = store_exported_read(c, &exported);

	ret[0] = '\0';
	if (r != 0 || exported <= s->head.sequence)
		return r;
	(void)snprintf(
		ret, size,
		"rows %llu to %llu, which were exported, are gone; their numbers are given again",
		(unsigned long long)s->head.sequence + 1, (unsigned long long)exported);
	/* what gets these numbers now was never exported */
	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)s->head.sequence);
	return store_meta_write(c, STORE_EXPORTED, text);
}

int store_tampering_settle(struct store *s, struct store_conn *c)
{
	char triggers[STORE_TAMPERING_SIZE * 5 / 8] = "", rows[STORE_TAMPERING_SIZE / 4];
	struct store_names names = { c, triggers, sizeof(triggers) };
	int r = store_guards_each_bad(s->guards, c, store_guard_restore, &names);

	s->tampering[0] = '\0';
	if (r == 0)
		r = store_settle_exported(s, c, rows, sizeof(rows));
	if (r == 0 && (triggers[0] || rows[0]))
		(void)snprintf(s->tampering, sizeof(s->tampering), "%s%s%s%s",
			       triggers[0] ? "triggers that were missing or changed are made anew: "
					   : "",
			       triggers, triggers[0] && rows[0] ? "; " : "", rows);
	return r;
}

const char *store_tampering(const struct store *s)
{
	return s->tampering;
}
