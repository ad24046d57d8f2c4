/* The log: it stays small, nothing is lost with it, and no writer runs beside a checkpoint. */
#include "test_store.h"

#include <signal.h>

#include "io/store_internal.h"

#define TEST_WAL_LIMIT (2 * STORE_CHECKPOINT_PAGES * 4120)

/* More than enough for a checkpoint. */
static void test_write_much(struct store *s)
{
	for (int i = 0; i < 200; i++)
		assert_int_equal(test_audit_turn(s, 5), 0);
}

static void test_the_log_stops_growing(void **state)
{
	const struct place *p = *state;
	struct store *s = test_open_leading(p);

	for (int i = 0; i < 20; i++) {
		test_write_much(s);
		assert_int_equal(store_checkpoint(s), 0);
	}
	assert_true(test_file_size(p->file, "-wal") < TEST_WAL_LIMIT);
	store_free(s);
	s = test_open(p);
	assert_int_equal(test_audit_count(s), 20 * 1000);
	store_free(s);
}

static void test_without_checkpoints_the_log_grows(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);

	/* the test above means something only if no one else checkpoints */
	for (int i = 0; i < 20; i++)
		test_write_much(s);
	assert_true(test_file_size(p->file, "-wal") > TEST_WAL_LIMIT);
}

static void test_closing_does_not_checkpoint(void **state)
{
	const struct place *p = *state;
	struct store *s = test_open_leading(p);
	off_t size;

	test_write_much(s);
	size = test_file_size(p->file, "-wal");
	assert_true(size > 0);
	store_free(s);
	assert_int_equal(test_file_size(p->file, "-wal"), size);
	s = test_open(p);
	assert_int_equal(test_audit_count(s), 1000);
	store_free(s);
}

static void test_a_small_log_is_left_alone(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	off_t size;

	assert_int_equal(store_checkpoint(s), 0); /* of unknown size, after a start */
	size = test_file_size(p->file, "");
	assert_int_equal(test_audit_turn(s, 30), 0);
	assert_int_equal(store_checkpoint(s), 0);
	assert_int_equal(test_file_size(p->file, ""), size);
}

static void test_a_writer_elsewhere_puts_it_off(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	off_t size;
	sqlite3 *db;

	test_write_much(s);
	assert_true(s->wal_pages > STORE_CHECKPOINT_PAGES);
	size = test_file_size(p->file, "");
	assert_int_equal(sqlite3_open(p->file, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(store_checkpoint(s), STORE_E_BUSY);
	assert_int_equal(test_file_size(p->file, ""), size);
	assert_int_equal(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(store_checkpoint(s), 0);
	assert_true(test_file_size(p->file, "") > size);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void test_grow(struct store *s)
{
	int n = 0;

	while (!store_log_is_long(s)) {
		assert_int_equal(test_audit_turn(s, 20), 0);
		assert_true(++n < STORE_LOG_PAGES);
	}
	assert_true(n > 1);
}

/* A busy broker doesn't wait for its next tick; one whose log is kept back doesn't try each turn.
 */
static void test_a_long_log_asks_once(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	sqlite3 *db;

	test_grow(s);
	assert_int_equal(store_checkpoint(s), 0);
	assert_false(store_log_is_long(s));
	test_grow(s); /* in the log that has begun anew */
	assert_int_equal(sqlite3_open(p->file, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "BEGIN; SELECT * FROM leader", NULL, NULL, NULL),
			 SQLITE_OK);
	assert_int_equal(test_audit_turn(s, 1),
			 0); /* what the reader doesn't see stays in the log */
	assert_int_equal(store_checkpoint(s), 0);
	assert_false(store_log_is_long(s));
	test_grow(s);
	assert_true(s->wal_pages >= 2 * STORE_LOG_PAGES);
	/* not ours, so we only see that the log begins anew */
	assert_int_equal(sqlite3_exec(db, "COMMIT; PRAGMA wal_checkpoint", NULL, NULL, NULL),
			 SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	assert_int_equal(test_audit_turn(s, 1), 0);
	test_grow(s);
	assert_true(s->wal_pages < STORE_LOG_PAGES + 20);
}

/* Writes `other` rows of its own as fast as it can, until it is told to stop, and says how many. */
static int test_write_beside(const struct place *p, int out, int stop)
{
	sqlite3 *db;
	long n = 0;
	char byte;

	CHECK(fcntl(stop, F_SETFL, O_NONBLOCK) == 0);
	CHECK(sqlite3_open(p->file, &db) == SQLITE_OK);
	CHECK(sqlite3_busy_timeout(db, 5000) == SQLITE_OK);
	CHECK(sqlite3_exec(db, "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0", NULL,
			   NULL, NULL) == SQLITE_OK);
	while (read(stop, &byte, 1) < 0) {
		CHECK(sqlite3_exec(db, "INSERT INTO other (text) VALUES (hex(randomblob(500)))",
				   NULL, NULL, NULL) == SQLITE_OK);
		n++;
	}
	CHECK(write(out, &n, sizeof(n)) == sizeof(n));
	return 0;
}

/* What SQLite's bug loses without the guard: rows of one of the two, or the database itself. */
static void test_a_writer_beside_the_checkpoints_loses_nothing(void **state)
{
	const struct place *p = *state;
	struct store *s = test_open_leading(p);
	int out[2], stop[2], status, r;
	sqlite3_stmt *stmt;
	long n = 0;
	pid_t pid;

	assert_int_equal(store_exec(&s->full, "CREATE TABLE other (id INTEGER PRIMARY KEY, text)"),
			 0);
	store_free(s);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(pipe2(stop, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)close(stop[1]);
		_exit(test_write_beside(p, out[1], stop[0]) == 0 ? 0 : 1);
	}
	(void)close(out[1]);
	s = test_open(p);
	while ((r = test_claim(s, "holder-a")) == STORE_E_BUSY)
		; /* the other one leaves little room */
	assert_int_equal(r, 0);
	for (int i = 0; i < 400; i++) {
		while ((r = test_audit_turn(s, 5)) == STORE_E_BUSY)
			;
		assert_int_equal(r, 0);
		s->wal_pages = STORE_CHECKPOINT_PAGES;
		r = store_checkpoint(s);
		assert_true(r == 0 || r == STORE_E_BUSY);
	}
	(void)close(stop[1]);
	assert_int_equal(read(out[0], &n, sizeof(n)), sizeof(n));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	(void)close(out[0]);
	(void)close(stop[0]);

	assert_int_equal(test_audit_count(s), 400 * 5);
	assert_int_equal(
		sqlite3_prepare_v2(s->turn.db,
				   "SELECT count(*), (SELECT * FROM pragma_integrity_check)"
				   " FROM other",
				   -1, &stmt, NULL),
		SQLITE_OK);
	assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
	assert_true(n > 0);
	assert_int_equal(sqlite3_column_int64(stmt, 0), n);
	assert_string_equal((const char *)sqlite3_column_text(stmt, 1), "ok");
	(void)sqlite3_finalize(stmt);
	store_free(s);
}

/* durability = crash: the timer's commit, which a changed row makes a synced one. */
static void test_sync_writes_only_after_a_change(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	off_t size;

	assert_int_equal(test_audit_turn(s, 1), 0);
	size = test_file_size(p->file, "-wal");
	assert_int_equal(store_sync(s), 0);
	assert_true(test_file_size(p->file, "-wal") > size);
	size = test_file_size(p->file, "-wal");
	assert_int_equal(store_sync(s), 0);
	assert_int_equal(test_file_size(p->file, "-wal"), size);
}

static void test_sync_is_fenced(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *a = test_open_leading(p), *b = test_open(p);

	assert_int_equal(test_audit_turn(a, 1), 0);
	assert_int_equal(test_claim(b, "holder-b"), 0);
	assert_int_equal(store_sync(a), STORE_E_FENCED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_the_log_stops_growing),
		STORE_TEST(test_without_checkpoints_the_log_grows),
		STORE_TEST(test_closing_does_not_checkpoint),
		STORE_TEST(test_a_small_log_is_left_alone),
		STORE_TEST(test_a_writer_elsewhere_puts_it_off),
		STORE_TEST(test_a_long_log_asks_once),
		STORE_TEST(test_a_writer_beside_the_checkpoints_loses_nothing),
		STORE_TEST(test_sync_writes_only_after_a_change),
		STORE_TEST(test_sync_is_fenced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
