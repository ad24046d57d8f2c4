/* The names of lease states and bindings, which stand in the database and on the wire. */
#include "test.h"

#include "core/lease.h"

static void test_states_have_names(void **state)
{
	static const char *const names[] = { "active", "released", "expired", "revoked" };

	(void)state;
	assert_int_equal(ARRAY_SIZE(names), LEASE_REVOKED + 1);
	for (int i = 0; i <= LEASE_REVOKED; i++)
		assert_string_equal(lease_state_name((enum lease_state)i), names[i]);
}

static void test_bindings_have_names(void **state)
{
	static const char *const names[] = { "process", "connection", "ttl" };

	(void)state;
	assert_int_equal(ARRAY_SIZE(names), LEASE_TTL + 1);
	for (int i = 0; i <= LEASE_TTL; i++) {
		assert_string_equal(lease_bind_name((enum lease_bind)i), names[i]);
		assert_int_equal(lease_bind_from_name(names[i]), i);
	}
	assert_int_equal(lease_bind_from_name(""), -1);
	assert_int_equal(lease_bind_from_name("TTL"), -1);
	assert_int_equal(lease_bind_from_name("proc"), -1);
	assert_int_equal(lease_bind_from_name("active"), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_states_have_names),
		cmocka_unit_test(test_bindings_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
