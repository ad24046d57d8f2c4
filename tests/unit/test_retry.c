/* Pauses between attempts, and when the breaker lets anything through. */
#include "test.h"

#include "core/retry.h"

static struct timing timing = { .retry_base_ms = 300, .retry_after_max_ms = 60000 };

static void test_pauses_double_and_half_of_each_is_drawn(void **state)
{
	(void)state;
	assert_int_equal(retry_pause_ms(&timing, 1, 0, 0), 150);
	assert_int_equal(retry_pause_ms(&timing, 1, 0, 150), 300);
	assert_int_equal(retry_pause_ms(&timing, 1, 0, 151), 150);
	assert_int_equal(retry_pause_ms(&timing, 2, 0, 0), 300);
	assert_int_equal(retry_pause_ms(&timing, 3, 0, 0), 600);
	for (uint32_t i = 0; i < 100000; i += 7) {
		int64_t pause = retry_pause_ms(&timing, 2, 0, i * 2654435761u);

		assert_in_range(pause, 300, 600);
	}
}

static void test_no_number_of_attempts_makes_a_pause_too_long(void **state)
{
	(void)state;
	assert_in_range(retry_pause_ms(&timing, 9, 0, UINT32_MAX), 30000, 60000);
	assert_in_range(retry_pause_ms(&timing, INT64_MAX, 0, UINT32_MAX), 30000, 60000);
	timing.retry_base_ms = INT64_MAX;
	assert_in_range(retry_pause_ms(&timing, 5, 0, 0), 30000, 60000);
	timing.retry_base_ms = 300;
}

static void test_retry_after_is_honoured_up_to_a_limit(void **state)
{
	(void)state;
	assert_int_equal(retry_pause_ms(&timing, 1, 2000, 0), 2000);
	assert_int_equal(retry_pause_ms(&timing, 1, 1, 0), 150);
	assert_int_equal(retry_pause_ms(&timing, 1, INT64_MAX, 0), 60000);
}

static void test_without_a_base_there_is_no_pause(void **state)
{
	struct timing none = { .retry_after_max_ms = 1000 };

	(void)state;
	assert_int_equal(retry_pause_ms(&none, 4, 0, 12345), 0);
	assert_int_equal(retry_pause_ms(&none, 4, 70, 12345), 70);
}

static void test_the_breaker_refuses_until_its_pause_is_over(void **state)
{
	struct breaker b = { 0 };

	(void)state;
	assert_int_equal(breaker_ask(&b, 1000), BREAKER_PASS);
	breaker_failed(&b, 1000, 5000);
	assert_int_equal(breaker_ask(&b, 1000), BREAKER_REFUSE);
	assert_int_equal(breaker_ask(&b, 5999), BREAKER_REFUSE);
	assert_int_equal(breaker_remaining_ms(&b, 4000), 2000);
	assert_int_equal(breaker_remaining_ms(&b, 6000), 0);
	assert_int_equal(breaker_ask(&b, 6000), BREAKER_PROBE);
}

static void test_one_probe_decides_for_all(void **state)
{
	struct breaker b = { 0 };

	(void)state;
	breaker_failed(&b, 0, 10);
	assert_int_equal(breaker_ask(&b, 10), BREAKER_PROBE);
	assert_int_equal(breaker_ask(&b, 1000), BREAKER_REFUSE);
	breaker_failed(&b, 1000, 10);
	assert_int_equal(breaker_ask(&b, 1005), BREAKER_REFUSE);
	assert_int_equal(breaker_ask(&b, 1010), BREAKER_PROBE);
	breaker_answered(&b);
	assert_int_equal(breaker_ask(&b, 1010), BREAKER_PASS);
	assert_int_equal(breaker_ask(&b, 1010), BREAKER_PASS);
}

static void test_a_probe_that_was_given_up_leaves_room_for_the_next(void **state)
{
	struct breaker b = { 0 };

	(void)state;
	breaker_failed(&b, 0, 10);
	assert_int_equal(breaker_ask(&b, 10), BREAKER_PROBE);
	breaker_abandoned(&b);
	assert_int_equal(breaker_ask(&b, 10), BREAKER_PROBE);
	assert_int_equal(breaker_ask(&b, 10), BREAKER_REFUSE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pauses_double_and_half_of_each_is_drawn),
		cmocka_unit_test(test_no_number_of_attempts_makes_a_pause_too_long),
		cmocka_unit_test(test_retry_after_is_honoured_up_to_a_limit),
		cmocka_unit_test(test_without_a_base_there_is_no_pause),
		cmocka_unit_test(test_the_breaker_refuses_until_its_pause_is_over),
		cmocka_unit_test(test_one_probe_decides_for_all),
		cmocka_unit_test(test_a_probe_that_was_given_up_leaves_room_for_the_next),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
