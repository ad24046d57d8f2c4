/* Who leads, and what those who don't are kept from. */
#include "test_store.h"

#include "io/store_internal.h"

static void test_terms_grow_with_each_claim(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open(p);
	struct leader self = test_self("holder-a"), current;

	assert_int_equal(store_term(s), 0);
	assert_int_equal(store_claim(s, &self, test_alive, NULL, &current), 0);
	assert_int_equal(self.term, 1);
	assert_int_equal(store_term(s), 1);
	assert_int_equal(store_vacate(s), 0);
	assert_int_equal(store_claim(s, &self, test_alive, NULL, &current), 0);
	assert_int_equal(self.term, 2);
}

static void test_a_claim_tells_who_led_before(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *a = test_open(p), *b = test_open(p);
	struct leader self = test_self("holder-a"), before = { .term = 99, .pid = 99 };

	assert_int_equal(store_claim(a, &self, test_dead, NULL, &before), 0);
	assert_int_equal(before.term, 0);
	assert_int_equal(before.pid, 0);
	self = test_self("holder-b");
	assert_int_equal(store_claim(b, &self, test_dead, NULL, &before), 0);
	assert_int_equal(self.term, 2);
	assert_int_equal(before.term, 1);
	assert_int_equal(before.pid, getpid());
	assert_string_equal(before.holder, "holder-a");
	assert_int_equal(store_vacate(b), 0);
	assert_int_equal(store_claim(a, &self, test_alive, NULL, &before), 0);
	assert_int_equal(before.term, 2);
	assert_int_equal(before.pid, 0);
}

static void test_a_living_leader_is_named(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *a = test_open_leading(p), *b = test_open(p);
	struct leader self = test_self("holder-b"), current = { 0 };

	assert_int_equal(store_claim(b, &self, test_alive, NULL, &current), STORE_E_LED);
	assert_int_equal(current.term, 1);
	assert_int_equal(current.pid, getpid());
	assert_int_equal(current.start_time, 99);
	assert_int_equal(current.pidns, 4026531836);
	assert_string_equal(current.boot_id, "this-boot");
	assert_string_equal(current.holder, "holder-a");
	assert_string_equal(current.instance, "main");
	assert_int_equal(self.term, 0);
	assert_int_equal(store_check_term(a), 0);
	assert_int_equal(store_check_term(b), STORE_E_FENCED);
}

static bool test_never_asked(const struct leader *row, void *userdata)
{
	(void)row;
	*(bool *)userdata = true;
	return false;
}

static void test_a_leader_of_another_boot_is_gone(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *a = test_open_leading(p), *b = test_open(p);
	struct leader self = test_self("holder-b"), current;
	bool asked = false;

	(void)snprintf(self.boot_id, sizeof(self.boot_id), "next-boot");
	assert_int_equal(store_claim(b, &self, test_never_asked, &asked, &current), 0);
	assert_false(asked);
	assert_int_equal(self.term, 2);
	assert_int_equal(store_check_term(a), STORE_E_FENCED);
}

static void test_a_dead_leader_is_replaced(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *a = test_open_leading(p), *b = test_open(p);

	assert_int_equal(test_claim(b, "holder-b"), 0);
	assert_int_equal(store_term(b), 2);
	assert_int_equal(store_check_term(b), 0);
	assert_int_equal(store_begin(a), STORE_E_FENCED);
	assert_int_equal(store_vacate(a), 0); /* not its row any more: nothing happens */
	assert_int_equal(store_check_term(b), 0);
	assert_int_equal(test_audit_turn(b, 1), 0);
}

static void test_no_one_writes_without_a_term(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open(p);

	assert_int_equal(store_begin(s), STORE_E_FENCED);
	assert_int_equal(test_claim(s, "holder-a"), 0);
	assert_int_equal(test_audit_turn(s, 1), 0);
	assert_int_equal(store_vacate(s), 0);
	assert_int_equal(store_begin(s), STORE_E_FENCED);
	assert_int_equal(store_check_term(s), STORE_E_FENCED);
}

static void test_a_leader_goes_on_from_its_predecessors_head(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *a = test_open(p), *b = test_open(p);
	uint8_t hash[HASH_SIZE], expected[HASH_SIZE];
	uint64_t sequence;

	assert_int_equal(test_claim(a, "holder-a"), 0);
	assert_int_equal(test_audit_turn(a, 3), 0);
	store_audit_head(a, &sequence, expected);
	assert_int_equal(test_claim(b, "holder-b"), 0);
	store_audit_head(b, &sequence, hash);
	assert_int_equal(sequence, 3);
	assert_memory_equal(hash, expected, HASH_SIZE);
	assert_int_equal(test_audit_turn(b, 1), 0);
}

static int test_exec(sqlite3 *db, const char *sql)
{
	return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

static void test_other_connections_cannot_write_the_rows(void **state)
{
	static const char *const writes[] = {
		"UPDATE key SET state = 'live'",
		"DELETE FROM key",
		"DELETE FROM lease",
		"UPDATE lease SET state = 'active'",
		"INSERT INTO key SELECT 'other', profile, mode, state, source, generation, hash,"
		" alias, team_id, uid, request_id, term, created_at_ms, expires_at_ms,"
		" changed_at_ms, delete_at_ms, secret FROM key",
		"INSERT INTO audit SELECT sequence + 1, hash, wall_ms, boot_ms, term, instance,"
		" event, outcome, rule, profile, lease, uid, gid, pid, start_time, unit, exe,"
		" key_tag, detail FROM audit",
		"DELETE FROM audit",
		"INSERT INTO audit_checkpoint VALUES (1, 9, 9, 9, x'00', x'00')",
		"UPDATE audit SET event = 'forged'",
	};
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	struct key_row key = test_key("key-1");
	struct lease_row lease = test_lease("lease-1");
	struct audit_row row = test_audit("acquire");
	sqlite3 *db;

	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_put_key(s, &key, NULL), 0);
	assert_int_equal(store_put_lease(s, &lease), 0);
	assert_int_equal(store_append_audit(s, &row), 0);
	assert_int_equal(store_commit(s), 0);
	assert_int_equal(sqlite3_open(p->file, &db), SQLITE_OK);
	for (size_t i = 0; i < ARRAY_SIZE(writes); i++)
		assert_int_equal(test_exec(db, writes[i]) & 0xff,
				 i < 8 ? SQLITE_ERROR : SQLITE_CONSTRAINT);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	assert_int_equal(test_audit_count(s), 1);
}

/* The check at the start of the transaction can't see a row that changes within it: the triggers
 * do. */
static void test_triggers_stop_each_write_of_a_deposed_leader(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	struct key_row key = test_key("key-1");
	struct lease_row lease = test_lease("lease-1");
	struct lease_row ending = test_lease("lease-2");
	struct audit_row row = test_audit("acquire");

	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_put_lease(s, &ending), 0);
	assert_int_equal(store_commit(s), 0);
	ending.state = LEASE_RELEASED;
	ending.ended_at_ms = 1700000000010;
	for (int i = 0; i < 4; i++) {
		assert_int_equal(store_begin(s), 0);
		s->term++;
		if (i == 0)
			assert_int_equal(store_put_key(s, &key, NULL), STORE_E_FENCED);
		else if (i == 1)
			assert_int_equal(store_put_lease(s, &lease), STORE_E_FENCED);
		else if (i == 2)
			assert_int_equal(store_put_lease(s, &ending), STORE_E_FENCED);
		else
			assert_int_equal(store_append_audit(s, &row), STORE_E_FENCED);
		s->term--;
		/* what failed in part is not committed in part */
		assert_int_equal(store_put_key(s, &key, NULL), STORE_E_FENCED);
		assert_int_equal(store_commit(s), STORE_E_FENCED);
	}
	assert_int_equal(test_audit_count(s), 0);
	assert_int_equal(test_audit_turn(s, 1), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_terms_grow_with_each_claim),
		STORE_TEST(test_a_claim_tells_who_led_before),
		STORE_TEST(test_a_living_leader_is_named),
		STORE_TEST(test_a_leader_of_another_boot_is_gone),
		STORE_TEST(test_a_dead_leader_is_replaced),
		STORE_TEST(test_no_one_writes_without_a_term),
		STORE_TEST(test_a_leader_goes_on_from_its_predecessors_head),
		STORE_TEST(test_other_connections_cannot_write_the_rows),
		STORE_TEST(test_triggers_stop_each_write_of_a_deposed_leader),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
