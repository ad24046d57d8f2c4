/* Searching the audit: each filter, together too, and never more rows in one call than it may. */
#include "test_store.h"

#include "io/store_find.h"
#include "io/store_internal.h"

static const struct audit_filter test_any = { .since_ms = -1, .until_ms = -1, .uid = -1 };

struct found {
	uint64_t sequences[64];
	size_t n, most; /* taken before it says stop */
};

static bool test_take(const struct audit_row *row, void *userdata)
{
	struct found *f = userdata;

	f->sequences[f->n++] = row->sequence;
	return f->n < f->most;
}

/* Row n has n in each of its columns. */
static void test_fill(struct store *s, int n)
{
	assert_int_equal(store_begin(s), 0);
	for (int i = 1; i <= n; i++) {
		struct audit_row row = test_audit("acquire");

		row.wall_ms = 1000 + i;
		row.uid = i % 4;
		(void)snprintf(row.event, sizeof(row.event), "event-%d", i % 3);
		(void)snprintf(row.outcome, sizeof(row.outcome), "outcome-%d", i % 2);
		(void)snprintf(row.profile, sizeof(row.profile), "profile-%d", i % 5);
		(void)snprintf(row.lease, sizeof(row.lease), "lease-%d", i);
		(void)snprintf(row.unit, sizeof(row.unit), "unit-%d", i % 6);
		(void)snprintf(row.key_tag, sizeof(row.key_tag), "tag-%d", i % 7);
		assert_int_equal(store_append_audit(s, &row), 0);
	}
	assert_int_equal(store_commit(s), 0);
}

/* All of 60 rows in one call: those that are divided by `by` with this rest. */
static void test_finds(struct store *s, const struct audit_filter *f, uint64_t by, uint64_t rest)
{
	struct audit_scan scan = { .until = 60, .rows = 1000 };
	struct found found = { .most = 64 };
	size_t n = 0;

	assert_int_equal(store_find_audit(s, f, &scan, test_take, &found), 0);
	for (uint64_t i = 1; i <= 60; i++)
		if (i % by == rest)
			assert_int_equal(found.sequences[n++], i);
	assert_int_equal(found.n, n);
	assert_int_equal(scan.at, 60);
	assert_int_equal(scan.rows, 1000 - 60);
}

static void test_each_filter_is_one(void **state)
{
	_cleanup_(store_freep) struct store *s = test_open_leading(*state);
	struct audit_filter f = test_any;

	test_fill(s, 60);
	test_finds(s, &f, 1, 0);
	f = test_any, f.uid = 0;
	test_finds(s, &f, 4, 0);
	f = test_any, f.event = "event-2";
	test_finds(s, &f, 3, 2);
	f = test_any, f.outcome = "outcome-1";
	test_finds(s, &f, 2, 1);
	f = test_any, f.profile = "profile-3";
	test_finds(s, &f, 5, 3);
	f = test_any, f.lease = "lease-42";
	test_finds(s, &f, 60, 42);
	f = test_any, f.unit = "unit-5";
	test_finds(s, &f, 6, 5);
	f = test_any, f.key_tag = "tag-6";
	test_finds(s, &f, 7, 6);
	f = test_any, f.since_ms = 1060;
	test_finds(s, &f, 60, 0);
	f = test_any, f.until_ms = 1002;
	test_finds(s, &f, 60, 1);
	f = test_any, f.since_ms = 1007, f.until_ms = 1008;
	test_finds(s, &f, 60, 7);
}

static void test_filters_go_together(void **state)
{
	_cleanup_(store_freep) struct store *s = test_open_leading(*state);
	struct audit_filter f = test_any;

	test_fill(s, 60);
	f.uid = 1; /* 1 mod 4 */
	f.event = "event-1";
	test_finds(s, &f, 12, 1);
	f.profile = "profile-1";
	test_finds(s, &f, 60, 1);
	f.since_ms = 1002;
	test_finds(s, &f, 61, 61); /* nothing */
}

static void test_a_call_looks_at_no_more_than_it_may(void **state)
{
	_cleanup_(store_freep) struct store *s = test_open_leading(*state);
	struct audit_filter f = test_any;
	struct audit_scan scan = { .until = 50 };
	struct found found = { .most = 64 };

	test_fill(s, 60);
	f.lease = "lease-42";
	assert_int_equal(store_find_audit(s, &f, &scan, test_take, &found), 0);
	assert_int_equal(scan.at, 0); /* none may be looked at */
	for (uint64_t i = 1; i <= 5; i++) {
		scan.rows = 10;
		assert_int_equal(store_find_audit(s, &f, &scan, test_take, &found), 0);
		assert_int_equal(scan.at, 10 * i);
		assert_int_equal(scan.rows, 0);
		assert_int_equal(found.n, i == 5);
	}
	scan.rows = 10;
	assert_int_equal(store_find_audit(s, &f, &scan, test_take, &found), 0);
	assert_int_equal(scan.at, 50); /* not beyond the end that was said */
	assert_int_equal(scan.rows, 10);
}

static void test_who_has_enough_goes_on_behind_it(void **state)
{
	_cleanup_(store_freep) struct store *s = test_open_leading(*state);
	struct audit_scan scan = { .until = 60, .rows = 1000 };
	struct audit_filter f = test_any;
	struct found found = { .most = 3 };

	test_fill(s, 60);
	f.outcome = "outcome-0";
	assert_int_equal(store_find_audit(s, &f, &scan, test_take, &found), 0);
	assert_int_equal(found.n, 3);
	assert_int_equal(found.sequences[2], 6);
	assert_int_equal(scan.at, 6);
	assert_int_equal(scan.rows, 1000 - 6);
	found.most = 5;
	assert_int_equal(store_find_audit(s, &f, &scan, test_take, &found), 0);
	assert_int_equal(found.sequences[3], 8);
	assert_int_equal(found.sequences[4], 10);
	assert_int_equal(scan.at, 10);
}

/* A hole in front, as pruning leaves it, costs nothing; nor does the end. */
static void test_holes_are_not_stepped_through(void **state)
{
	_cleanup_(store_freep) struct store *s = test_open_leading(*state);
	struct audit_scan scan = { .at = 3, .until = 60, .rows = 10 };
	struct found found = { .most = 64 };

	test_fill(s, 60);
	assert_int_equal(sqlite3_exec(s->turn.db,
				      "DROP TRIGGER audit_no_DELETE;"
				      "DELETE FROM audit WHERE sequence <= 40",
				      NULL, NULL, NULL),
			 SQLITE_OK);
	assert_int_equal(store_find_audit(s, &test_any, &scan, test_take, &found), 0);
	assert_int_equal(found.sequences[0], 41);
	assert_int_equal(found.n, 10);
	assert_int_equal(scan.at, 50);
	assert_int_equal(scan.rows, 0);
	scan = (struct audit_scan){ .at = 60, .until = 60, .rows = 10 };
	assert_int_equal(store_find_audit(s, &test_any, &scan, test_take, &found), 0);
	assert_int_equal(scan.at, 60);
	scan = (struct audit_scan){ .at = 5, .until = 20, .rows = 10 };
	assert_int_equal(store_find_audit(s, &test_any, &scan, test_take, &found), 0);
	assert_int_equal(scan.at, 20);
	assert_int_equal(scan.rows, 10);
	assert_int_equal(found.n, 10);
}

/* No lock outlives a call: the log can be moved whole while a search is under way. */
static void test_a_search_holds_nothing_between_its_steps(void **state)
{
	_cleanup_(store_freep) struct store *s = test_open_leading(*state);
	struct audit_scan scan = { .until = 60, .rows = 10 };
	struct found found = { .most = 64 };
	int n_log = -1, n_moved = -2;

	test_fill(s, 60);
	assert_int_equal(store_find_audit(s, &test_any, &scan, test_take, &found), 0);
	found.most = 0;
	assert_int_equal(store_find_audit(s, &test_any, &scan, test_take, &found), 0);
	test_fill(s, 1);
	assert_int_equal(sqlite3_wal_checkpoint_v2(s->full.db, NULL, SQLITE_CHECKPOINT_PASSIVE,
						   &n_log, &n_moved),
			 SQLITE_OK);
	assert_true(n_log > 0);
	assert_int_equal(n_log, n_moved);
}

static void test_a_broken_row_is_an_error(void **state)
{
	_cleanup_(store_freep) struct store *s = test_open_leading(*state);
	struct audit_scan scan = { .until = 60, .rows = 10 };
	struct found found = { .most = 64 };

	test_fill(s, 60);
	assert_int_equal(sqlite3_exec(s->turn.db,
				      "DROP TRIGGER audit_no_UPDATE;"
				      "UPDATE audit SET hash = x'00' WHERE sequence = 5",
				      NULL, NULL, NULL),
			 SQLITE_OK);
	assert_int_equal(store_find_audit(s, &test_any, &scan, test_take, &found), -EBADMSG);
	assert_int_equal(scan.at, 0);
	scan.at = 5;
	assert_int_equal(store_find_audit(s, &test_any, &scan, test_take, &found), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_each_filter_is_one),
		STORE_TEST(test_filters_go_together),
		STORE_TEST(test_a_call_looks_at_no_more_than_it_may),
		STORE_TEST(test_who_has_enough_goes_on_behind_it),
		STORE_TEST(test_holes_are_not_stepped_through),
		STORE_TEST(test_a_search_holds_nothing_between_its_steps),
		STORE_TEST(test_a_broken_row_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
