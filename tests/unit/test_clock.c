/* The clocks: the right ones, in milliseconds, and never going back where they must not. */
#include "test.h"

#include <time.h>

#include "base/clock.h"

static int64_t test_msec(clockid_t id)
{
	struct timespec t;

	assert_int_equal(clock_gettime(id, &t), 0);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void test_an_instant_is_now_in_milliseconds(void **state)
{
	int64_t wall = test_msec(CLOCK_REALTIME), boot = test_msec(CLOCK_BOOTTIME);
	struct instant now = clock_now();

	(void)state;
	assert_true(now.boot_ms >= boot && now.boot_ms <= test_msec(CLOCK_BOOTTIME));
	/* the wall clock may be set meanwhile, but not in most runs and not by much */
	assert_true(now.wall_ms >= wall - 5000 && now.wall_ms <= wall + 60000);
}

static void test_boot_time_never_goes_back(void **state)
{
	int64_t last = 0;

	(void)state;
	for (int i = 0; i < 10000; i++) {
		int64_t now = clock_now().boot_ms;

		assert_true(now >= last);
		last = now;
	}
}

static void test_nanoseconds_are_of_the_monotonic_clock(void **state)
{
	int64_t before = test_msec(CLOCK_MONOTONIC);
	int64_t now = clock_monotonic_nsec(), last = now;

	(void)state;
	assert_true(now / 1000000 >= before && now / 1000000 <= test_msec(CLOCK_MONOTONIC));
	for (int i = 0; i < 10000; i++) {
		now = clock_monotonic_nsec();
		assert_true(now >= last);
		last = now;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_instant_is_now_in_milliseconds),
		cmocka_unit_test(test_boot_time_never_goes_back),
		cmocka_unit_test(test_nanoseconds_are_of_the_monotonic_clock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
