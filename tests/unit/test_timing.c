/* Timing by member name, as a testing build's --timing sets it. */
#include "test.h"

#include <errno.h>
#include <string.h>

#include "core/timing.h"

static void test_a_member_is_set_by_its_name_and_no_other_is(_unused_ void **state)
{
	struct timing t = timing_default, expected = timing_default;

	expected.grace_ms = 7;
	assert_int_equal(timing_set(&t, "grace_ms", 7), 0);
	assert_memory_equal(&t, &expected, sizeof(t));
	expected.idle_reap_ms = 0;
	assert_int_equal(timing_set(&t, "idle_reap_ms", 0), 0);
	assert_memory_equal(&t, &expected, sizeof(t));
}

static void test_unknown_names_and_negative_values_change_nothing(_unused_ void **state)
{
	struct timing t = timing_default;

	assert_int_equal(timing_set(&t, "grace", 7), -ENOENT);
	assert_int_equal(timing_set(&t, "", 7), -ENOENT);
	assert_int_equal(timing_set(&t, "grace_ms", -1), -EINVAL);
	assert_memory_equal(&t, &timing_default, sizeof(t));
}

/* A key is prolonged with 90 s to go, so one that lives shorter could never be. */
static void test_the_defaults_agree_with_one_another(_unused_ void **state)
{
	assert_true(timing_default.duration_min_ms > 3 * timing_default.extend_floor_ms);
	assert_true(timing_default.ttl_default_ms <= timing_default.ttl_max_ms);
	assert_true(timing_default.extend_floor_ms > 60000);
	assert_int_equal(timing_default.retry_attempts, 3);
	assert_int_equal(timing_default.info_timeout_ms, 2000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_member_is_set_by_its_name_and_no_other_is),
		cmocka_unit_test(test_unknown_names_and_negative_values_change_nothing),
		cmocka_unit_test(test_the_defaults_agree_with_one_another),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
