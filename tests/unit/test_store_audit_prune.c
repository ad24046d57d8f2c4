/*
 * The prune of the audit: what goes is proved first and signed for after, the rest verifies, and
 * nothing but a prune removes a row.
 */
#include "test_store.h"

#include "core/audit_chain.h"
#include "io/store_audit_prune.h"
#include "io/store_internal.h"

#define DAY_MS INT64_C(86400000)

/* `n` rows, one a day from day 1 on. */
static struct store *test_days(const struct place *p, int n)
{
	struct store *s = test_open_leading(p);

	assert_int_equal(store_begin(s), 0);
	for (int i = 1; i <= n; i++) {
		struct audit_row row = test_audit("acquire");

		row.wall_ms = i * DAY_MS;
		assert_int_equal(store_append_audit(s, &row), 0);
	}
	assert_int_equal(store_commit(s), 0);
	return s;
}

/* Prunes what is older than the day; -> how many rows went, or -1 and the outcome. */
static int test_prune_limit(struct store *s, int day, uint64_t through, size_t limit, int *outcome)
{
	const struct store_audit_prune what = { day * DAY_MS, through, limit };
	struct audit_checkpoint c;
	size_t n = 0;

	assert_int_equal(store_begin(s), 0);
	*outcome = store_audit_prune(s, &what, &c, &n);
	if (*outcome != 0) {
		store_rollback(s);
		return -1;
	}
	assert_int_equal(store_commit(s), 0);
	return (int)n;
}

static int test_prune(struct store *s, int day, uint64_t through)
{
	int outcome, n = test_prune_limit(s, day, through, 100, &outcome);

	assert_int_equal(outcome, 0);
	return n;
}

static int test_add(const struct audit_row *row, void *userdata)
{
	(void)chain_add(userdata, row);
	return 0;
}

/* From the checkpoint on, as a verification goes; -> rows, or -1. */
static int test_verify(const struct place *p, struct store *s)
{
	struct audit_checkpoint checkpoint;
	struct chain_verdict v;
	struct chain c;

	assert_int_equal(store_audit_checkpoint(s, &checkpoint), 0);
	chain_start(&c, p->keyring, checkpoint.sequence, checkpoint.hash);
	assert_int_equal(store_each_audit(s, 0, 100000, test_add, &c), 0);
	chain_end(&c, &v);
	return v.fault == CHAIN_GOOD ? (int)c.n_rows : -1;
}

static void test_the_rest_verifies(void **state)
{
	const struct place *p = *state;
	struct store *s = test_days(p, 10);
	struct audit_checkpoint c;

	assert_int_equal(test_prune(s, 4, 100), 3);
	assert_int_equal(test_verify(p, s), 7);
	assert_int_equal(store_audit_checkpoint(s, &c), 0);
	assert_int_equal(c.sequence, 3);
	assert_int_equal(c.count, 3);
	assert_true(c.pruned_at_ms > 1700000000000);
	assert_int_equal(test_prune(s, 4, 100), 0);
	assert_int_equal(test_prune(s, 6, 100), 2);
	assert_int_equal(store_audit_checkpoint(s, &c), 0);
	assert_int_equal(c.count, 5);
	assert_int_equal(test_audit_turn(s, 2), 0);
	assert_int_equal(test_verify(p, s), 7);
	store_free(s);
	s = test_open_leading(p); /* the head is found, and goes on */
	assert_int_equal(test_audit_turn(s, 1), 0);
	assert_int_equal(test_verify(p, s), 8);
	store_free(s);
}

static void test_limits_are_kept(void **state)
{
	_cleanup_(store_freep) struct store *s = test_days(*state, 10);
	int outcome;

	assert_int_equal(test_prune_limit(s, 9, 100, 2, &outcome), 2);
	assert_int_equal(test_prune_limit(s, 9, 3, 5, &outcome), 1);
	assert_int_equal(test_prune(s, 9, 0), 0);
	assert_int_equal(test_verify(*state, s), 7);
}

static void test_the_newest_row_stays(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_days(p, 5);
	uint8_t hash[HASH_SIZE];
	uint64_t head;

	assert_int_equal(test_prune(s, 99, UINT64_MAX), 4);
	assert_int_equal(test_audit_count(s), 1);
	assert_int_equal(test_prune(s, 99, UINT64_MAX), 0);
	store_free(TAKE(s));
	s = test_open_leading(p);
	store_audit_head(s, &head, hash);
	assert_int_equal(head, 5);
	assert_int_equal(test_audit_turn(s, 1), 0);
	assert_int_equal(test_verify(p, s), 2);
}

static void test_an_empty_audit_has_nothing_to_prune(void **state)
{
	_cleanup_(store_freep) struct store *s = test_open_leading(*state);

	assert_int_equal(test_prune(s, 99, UINT64_MAX), 0);
}

/* The wall clock was set back: what comes behind the first row that stays stays too. */
static void test_a_prune_takes_a_beginning_without_gaps(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_days(p, 3);
	struct audit_row row = test_audit("acquire");

	row.wall_ms = 1;
	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_append_audit(s, &row), 0);
	assert_int_equal(store_append_audit(s, &row), 0);
	assert_int_equal(store_commit(s), 0);
	assert_int_equal(test_prune(s, 2, 100), 1);
	assert_int_equal(test_verify(p, s), 4);
}

static void test_meddle(const struct store *s, const char *sql)
{
	assert_int_equal(sqlite3_exec(s->turn.db, sql, NULL, NULL, NULL), SQLITE_OK);
}

/* A checkpoint vouches for what is gone: that must have been right. */
static void test_rows_that_do_not_verify_stay(void **state)
{
	static const char *const edits[] = {
		"DROP TRIGGER audit_no_UPDATE; UPDATE audit SET uid = 0 WHERE sequence = 3",
		"UPDATE audit SET uid = 1000, detail = 'a fresh key' || char(0) WHERE sequence = 3",
	};
	_cleanup_(store_freep) struct store *s = test_days(*state, 10);
	int outcome;

	for (size_t i = 0; i < ARRAY_SIZE(edits); i++) {
		test_meddle(s, edits[i]);
		assert_int_equal(test_prune_limit(s, 9, 100, 100, &outcome), -1);
		assert_int_equal(outcome, STORE_E_BROKEN);
		assert_int_equal(test_audit_count(s), 10);
	}
}

static void test_a_forged_checkpoint_stops_a_prune(void **state)
{
	_cleanup_(store_freep) struct store *s = test_days(*state, 10);
	struct audit_checkpoint c;
	int outcome;

	assert_int_equal(test_prune(s, 3, 100), 2);
	test_meddle(s, "UPDATE audit_checkpoint SET sequence = 5");
	assert_int_equal(store_audit_checkpoint(s, &c), STORE_E_BROKEN);
	assert_int_equal(test_prune_limit(s, 9, 100, 100, &outcome), -1);
	assert_int_equal(outcome, STORE_E_BROKEN);
}

/* Not even the leader, by SQL alone. */
static void test_only_behind_a_signed_checkpoint(void **state)
{
	_cleanup_(store_freep) struct store *s = test_days(*state, 10);

	assert_int_equal(test_prune(s, 4, 100), 3);
	assert_int_equal(
		sqlite3_exec(s->turn.db, "DELETE FROM audit WHERE sequence = 4", NULL, NULL, NULL),
		SQLITE_CONSTRAINT_TRIGGER);
	test_meddle(s, "UPDATE audit_checkpoint SET sequence = 8");
	assert_int_equal(
		sqlite3_exec(s->turn.db, "DELETE FROM audit WHERE sequence = 4", NULL, NULL, NULL),
		SQLITE_CONSTRAINT_TRIGGER);
	assert_int_equal(test_audit_count(s), 7);
}

static void test_a_deposed_leader_prunes_nothing(void **state)
{
	const struct store_audit_prune what = { 9 * DAY_MS, 100, 100 };
	_cleanup_(store_freep) struct store *s = test_days(*state, 10);
	struct audit_checkpoint c;
	size_t n;

	assert_int_equal(store_begin(s), 0);
	s->term++;
	assert_int_equal(store_audit_prune(s, &what, &c, &n), STORE_E_FENCED);
	s->term--;
	store_rollback(s);
	/* the trigger on the rows alone */
	assert_int_equal(test_prune(s, 4, 100), 3);
	s->term++;
	assert_int_equal(sqlite3_exec(s->turn.db, "DELETE FROM audit_checkpoint", NULL, NULL, NULL),
			 SQLITE_CONSTRAINT_TRIGGER);
	s->term--;
	assert_int_equal(test_verify(*state, s), 7);
}

/* A state of the version before gets the table and the new trigger at the claim. */
static void test_a_state_of_version_1(void **state)
{
	const struct place *p = *state;
	struct store *s = test_days(p, 5);

	test_meddle(s, TEST_WITHOUT_VERSION_3
		    "DROP TABLE audit_checkpoint; DROP TRIGGER audit_no_DELETE;"
		    "DROP TRIGGER audit_fence_DELETE;"
		    "CREATE TRIGGER audit_no_DELETE BEFORE DELETE ON audit"
		    " BEGIN SELECT RAISE(ABORT, 'audit rows are never changed'); END;"
		    "UPDATE meta SET value = '1' WHERE name = 'schema'");
	store_free(s);
	s = test_open_leading(p);
	assert_int_equal(test_audit_count(s), 5);
	assert_int_equal(test_prune(s, 3, 100), 2);
	assert_int_equal(test_verify(p, s), 3);
	store_free(s);
}

static void test_what_was_exported_is_kept(void **state)
{
	const struct place *p = *state;
	struct store *s = test_days(p, 3);
	uint64_t exported = 99;
	int64_t wall;

	assert_int_equal(store_audit_exported(s, &exported), 0);
	assert_int_equal(exported, 0);
	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_set_audit_exported(s, 2), 0);
	assert_int_equal(store_commit(s), 0);
	store_free(s);
	s = test_open_leading(p);
	assert_int_equal(store_audit_exported(s, &exported), 0);
	assert_int_equal(exported, 2);
	assert_int_equal(store_audit_wall(s, 2, &wall), 0);
	assert_int_equal(wall, 2 * DAY_MS);
	assert_int_equal(store_audit_wall(s, 4, &wall), -ENOENT);
	store_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_the_rest_verifies),
		STORE_TEST(test_limits_are_kept),
		STORE_TEST(test_the_newest_row_stays),
		STORE_TEST(test_an_empty_audit_has_nothing_to_prune),
		STORE_TEST(test_a_prune_takes_a_beginning_without_gaps),
		STORE_TEST(test_rows_that_do_not_verify_stay),
		STORE_TEST(test_a_forged_checkpoint_stops_a_prune),
		STORE_TEST(test_only_behind_a_signed_checkpoint),
		STORE_TEST(test_a_deposed_leader_prunes_nothing),
		STORE_TEST(test_a_state_of_version_1),
		STORE_TEST(test_what_was_exported_is_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
