/* Durations: exactly one number and one unit. */
#include "test.h"

#include <errno.h>

#include "core/duration.h"

static void test_each_unit(_unused_ void **state)
{
	static const struct {
		const char *text;
		int64_t ms;
	} good[] = {
		{ "1s", 1000 },
		{ "5m", 300000 },
		{ "24h", 86400000 },
		{ "30d", 2592000000 },
		{ "2w", 1209600000 },
		{ "1mo", 2592000000 },
		{ "36500d", 3153600000000 },
		{ "3153600000s", 3153600000000 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		int64_t ms = -1;

		assert_int_equal(duration_parse(good[i].text, &ms), 0);
		assert_int_equal(ms, good[i].ms);
	}
}

static void test_everything_else_is_refused(_unused_ void **state)
{
	static const char *const bad[] = {
		"",
		"30",
		"1h30m",
		"500ms",
		"0s",
		"01h",
		"-5m",
		"+5m",
		" 5m",
		"5m ",
		"5 m",
		"1.5h",
		"30D",
		"1y",
		"1M",
		"1mon",
		"mo",
		"d",
		"abc",
		"5m\n",
		"0x5m",
		"1e3s",
		"36501d",
		"1300mo",
		"99999999999999999999999s",
		"9223372036854775807s",
		"9223372036854775808w",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		int64_t ms = 42;

		assert_int_equal(duration_parse(bad[i], &ms), -EINVAL);
		assert_int_equal(ms, 42);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_unit),
		cmocka_unit_test(test_everything_else_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
