/* The audit: in sequence, chained, and never changed. */
#include "test_store.h"

#include "base/buf.h"
#include "io/store_internal.h"

struct check {
	const struct keyring *keyring;
	uint8_t previous[HASH_SIZE];
	uint64_t n;
	bool broken;
};

/* Recomputes the chain as an offline verification would. */
static int test_check_row(const struct audit_row *row, void *userdata)
{
	_cleanup_(buf_deinit) struct buf b = BUF_INIT(0);
	struct check *c = userdata;
	uint8_t hash[HASH_SIZE];

	assert_int_equal(audit_encode(row, &b), 0);
	keyring_chain(c->keyring, c->previous, b.data, b.len, hash);
	c->n++;
	if (row->sequence != c->n || memcmp(hash, row->hash, HASH_SIZE) != 0)
		c->broken = true;
	memcpy(c->previous, row->hash, HASH_SIZE);
	return 0;
}

static bool test_chain_holds(const struct place *p, struct store *s, uint64_t n)
{
	struct check c = { .keyring = p->keyring };

	assert_int_equal(store_each_audit(s, 0, 1000000, test_check_row, &c), 0);
	return !c.broken && c.n == n;
}

static void test_rows_are_chained_from_zero(void **state)
{
	const struct place *p = *state;
	struct store *s = test_open_leading(p);
	uint8_t hash[HASH_SIZE];
	const uint8_t zeroes[HASH_SIZE] = { 0 };
	uint64_t sequence = 99;

	store_audit_head(s, &sequence, hash);
	assert_int_equal(sequence, 0);
	assert_memory_equal(hash, zeroes, HASH_SIZE);
	assert_int_equal(test_audit_turn(s, 1), 0);
	assert_int_equal(test_audit_turn(s, 5), 0);
	assert_true(test_chain_holds(p, s, 6));
	store_free(s);

	s = test_open_leading(p);
	assert_int_equal(test_audit_turn(s, 2), 0);
	assert_true(test_chain_holds(p, s, 8));
	store_free(s);
}

static int test_keep_row(const struct audit_row *row, void *userdata)
{
	*(struct audit_row *)userdata = *row;
	return 0;
}

static void test_every_value_of_a_row_comes_back(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	struct audit_row row = test_audit("acquire"), found;

	memset(row.exe, 'x', sizeof(row.exe) - 1);
	memset(row.detail, 'y', sizeof(row.detail) - 1);
	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_append_audit(s, &row), 0);
	assert_int_equal(store_commit(s), 0);
	assert_int_equal(row.sequence, 1);
	assert_int_equal(store_each_audit(s, 0, 10, test_keep_row, &found), 0);
	assert_int_equal(row.sequence, found.sequence);
	assert_memory_equal(row.hash, found.hash, HASH_SIZE);
	assert_int_equal(row.wall_ms, found.wall_ms);
	assert_int_equal(row.boot_ms, found.boot_ms);
	assert_int_equal(row.term, found.term);
	assert_string_equal(row.instance, found.instance);
	assert_string_equal(row.event, found.event);
	assert_string_equal(row.outcome, found.outcome);
	assert_string_equal(row.rule, found.rule);
	assert_string_equal(row.profile, found.profile);
	assert_string_equal(row.lease, found.lease);
	assert_int_equal(row.uid, found.uid);
	assert_int_equal(row.gid, found.gid);
	assert_int_equal(row.pid, found.pid);
	assert_int_equal(row.start_time, found.start_time);
	assert_string_equal(row.unit, found.unit);
	assert_string_equal(row.exe, found.exe);
	assert_string_equal(row.key_tag, found.key_tag);
	assert_string_equal(row.detail, found.detail);
}

static void test_a_rollback_restores_the_head(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	struct audit_row row = test_audit("acquire");
	uint8_t before[HASH_SIZE], after[HASH_SIZE];
	uint64_t sequence;

	assert_int_equal(test_audit_turn(s, 2), 0);
	store_audit_head(s, &sequence, before);
	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_append_audit(s, &row), 0);
	store_audit_head(s, &sequence, after);
	assert_int_equal(sequence, 3);
	store_rollback(s);
	store_audit_head(s, &sequence, after);
	assert_int_equal(sequence, 2);
	assert_memory_equal(before, after, HASH_SIZE);
	assert_int_equal(test_audit_turn(s, 1), 0);
	assert_true(test_chain_holds(p, s, 3));
}

static int test_stop_at_once(const struct audit_row *row, void *userdata)
{
	*(uint64_t *)userdata = row->sequence;
	return 5;
}

static void test_pages_follow_each_other(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	uint64_t n = 0, first = 0;

	assert_int_equal(test_audit_turn(s, 10), 0);
	assert_int_equal(store_each_audit(s, 3, 4, test_count, &n), 0);
	assert_int_equal(n, 4);
	n = 0;
	assert_int_equal(store_each_audit(s, 7, 100, test_count, &n), 0);
	assert_int_equal(n, 3);
	assert_int_equal(store_each_audit(s, 10, 100, test_stop_at_once, &first), 0);
	assert_int_equal(store_each_audit(s, 3, 4, test_stop_at_once, &first), 5);
	assert_int_equal(first, 4);
}

static void test_not_even_the_leader_changes_a_row(void **state)
{
	static const char *const writes[] = {
		"UPDATE audit SET event = 'forged'",
		"DELETE FROM audit WHERE sequence = 2",
		"REPLACE INTO audit SELECT 1, hash, wall_ms, boot_ms, term, instance, 'forged',"
		" outcome, rule, profile, lease, uid, gid, pid, start_time, unit, exe, key_tag,"
		" detail FROM audit WHERE sequence = 1",
		"INSERT INTO audit SELECT 9, hash, wall_ms, boot_ms, term, instance, event,"
		" outcome, rule, profile, lease, uid, gid, pid, start_time, unit, exe, key_tag,"
		" detail FROM audit WHERE sequence = 1",
	};
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);

	assert_int_equal(test_audit_turn(s, 2), 0);
	for (size_t i = 0; i < ARRAY_SIZE(writes); i++)
		assert_int_equal(sqlite3_exec(s->turn.db, writes[i], NULL, NULL, NULL),
				 SQLITE_CONSTRAINT_TRIGGER);
	assert_true(test_chain_holds(p, s, 2));
}

static void test_a_forged_row_breaks_the_chain(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);

	assert_int_equal(test_audit_turn(s, 3), 0);
	assert_int_equal(sqlite3_exec(s->turn.db,
				      "DROP TRIGGER audit_no_UPDATE;"
				      "UPDATE audit SET outcome = 'denied' WHERE sequence = 2",
				      NULL, NULL, NULL),
			 SQLITE_OK);
	assert_false(test_chain_holds(p, s, 3));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_rows_are_chained_from_zero),
		STORE_TEST(test_every_value_of_a_row_comes_back),
		STORE_TEST(test_a_rollback_restores_the_head),
		STORE_TEST(test_pages_follow_each_other),
		STORE_TEST(test_not_even_the_leader_changes_a_row),
		STORE_TEST(test_a_forged_row_breaks_the_chain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
