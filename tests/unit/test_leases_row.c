/* What a change makes of a lease's row. */
#include "test_daemon.h"

static void test_an_ended_lease_is_never_revived(void **state)
{
	struct lease_row row = test_lease("lease-1"), to = test_lease("lease-2");

	(void)state;
	to.state = LEASE_REVOKED;
	to.ended_at_ms = 5;
	lease_row_set(&row, LEASE_SET_STATE, &to);
	assert_int_equal(row.state, LEASE_REVOKED);
	assert_int_equal(row.ended_at_ms, 5);
	assert_string_equal(row.id, "lease-1");
	for (int state_of = LEASE_ACTIVE; state_of <= LEASE_REVOKED; state_of++) {
		to.state = (enum lease_state)state_of;
		to.ended_at_ms = 6;
		lease_row_set(&row, LEASE_SET_STATE, &to);
		assert_int_equal(row.state, LEASE_REVOKED);
		assert_int_equal(row.ended_at_ms, 5);
	}
	to.ends_at_ms = 7;
	to.ends_boot_ms = 8;
	(void)snprintf(to.boot_id, sizeof(to.boot_id), "that-boot");
	lease_row_set(&row, LEASE_SET_ENDS_AT, &to);
	assert_int_equal(row.ends_at_ms, 7);
	assert_int_equal(row.ends_boot_ms, 8); /* by the clock of the boot that is named */
	assert_string_equal(row.boot_id, "that-boot");
	assert_string_equal(row.key_id, "key-1");
	(void)snprintf(to.key_id, sizeof(to.key_id), "key-2");
	lease_row_set(&row, LEASE_SET_KEY, &to);
	assert_string_equal(row.key_id, "key-2");
	assert_int_equal(row.ends_at_ms, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_ended_lease_is_never_revived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
