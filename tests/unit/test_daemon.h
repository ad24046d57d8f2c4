/*
 * For the tests of the daemon's rows in memory: a real store that leads, and as much of a daemon
 * around it as they need. It counts as stopping, so that no key goes upstream by itself.
 */
#pragma once

#include "test_store.h"

#include <event2/event.h>
#include <sqlite3.h>

#include "base/clock.h"
#include "core/config.h"
#include "daemon/account.h"
#include "daemon/daemon.h"
#include "daemon/denials.h"
#include "daemon/keys.h"
#include "daemon/leases.h"
#include "daemon/turn.h"
#include "daemon/watch.h"

struct broker {
	struct place *place;
	struct config config;
	char instance[8];
	struct daemon d;
	sqlite3 *other; /* another process, as far as the store can tell */
};

static inline int broker_setup(void **state)
{
	struct broker *b = calloc(1, sizeof(*b));
	void *place = NULL;

	assert_non_null(b);
	assert_int_equal(test_place_setup(&place), 0);
	b->place = place;
	(void)snprintf(b->instance, sizeof(b->instance), "main");
	b->config = (struct config){ .instance = b->instance, .timing = timing_default };
	b->d = (struct daemon){ .config = &b->config, .keyring = b->place->keyring };
	b->d.stopping = true;
	b->d.base = event_base_new();
	assert_non_null(b->d.base);
	b->d.store = test_open_leading(b->place);
	b->d.term = store_term(b->d.store);
	b->d.turn = turn_new(&b->d);
	b->d.accounts = accounts_new();
	b->d.keys = keys_new(&b->d);
	b->d.leases = leases_new(&b->d);
	b->d.denials = denials_new(&b->d);
	b->d.watch = watch_new(&b->d);
	assert_int_equal(sqlite3_open(b->place->file, &b->other), SQLITE_OK);
	*state = b;
	return 0;
}

static inline int broker_teardown(void **state)
{
	struct broker *b = *state;
	void *place = b->place;

	(void)sqlite3_close(b->other);
	turn_free(b->d.turn);
	watch_free(b->d.watch);
	leases_free(b->d.leases);
	keys_free(b->d.keys);
	denials_free(b->d.denials);
	accounts_free(b->d.accounts); /* asserts that nothing is charged any more */
	event_base_free(b->d.base);
	store_free(b->d.store);
	(void)test_place_teardown(&place);
	free(b);
	return 0;
}

#define BROKER_TEST(f) cmocka_unit_test_setup_teardown(f, broker_setup, broker_teardown)

static inline void broker_sql(const struct broker *b, const char *sql)
{
	if (sqlite3_exec(b->other, sql, NULL, NULL, NULL) != SQLITE_OK)
		fail_msg("%s: %s", sql, sqlite3_errmsg(b->other));
}

/* The one number that `sql` asks for, as another process sees it. */
static inline int64_t broker_count(const struct broker *b, const char *sql)
{
	sqlite3_stmt *stmt;
	int64_t n;

	assert_int_equal(sqlite3_prepare_v2(b->other, sql, -1, &stmt, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
	n = sqlite3_column_int64(stmt, 0);
	assert_int_equal(sqlite3_finalize(stmt), SQLITE_OK);
	return n;
}

/* From here on no turn commits, until broker_unlock(). */
static inline void broker_lock(const struct broker *b)
{
	broker_sql(b, "BEGIN IMMEDIATE");
}

static inline void broker_unlock(const struct broker *b)
{
	broker_sql(b, "ROLLBACK");
}

/* One pass of the loop that waits for something to do, and its turn's end. */
static inline void broker_turn(const struct broker *b)
{
	assert_true(event_base_loop(b->d.base, EVLOOP_ONCE) >= 0);
	assert_int_equal(turn_end(b->d.turn), 0);
}

/* A key in memory and in the store. */
static inline struct key *broker_key(struct broker *b, const char *id, enum profile_mode mode)
{
	struct key_row row = test_key(id);
	struct key *k;

	row.mode = mode;
	assert_int_equal(store_begin(b->d.store), 0);
	assert_int_equal(store_put_key(b->d.store, &row, NULL), 0);
	assert_int_equal(store_commit(b->d.store), 0);
	k = key_add(&b->d, &row);
	k->checked = true;
	return k;
}
