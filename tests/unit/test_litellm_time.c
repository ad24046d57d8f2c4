/* LiteLLM's times against the C library's calendar, and what is not a time. */
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "core/litellm.h"

static int64_t parse(const char *text)
{
	int64_t ms = -1;

	if (litellm_parse_time(text, &ms) < 0)
		fail_msg("'%s' was refused", text);
	return ms;
}

static void test_the_recorded_forms_are_read(void **state)
{
	(void)state;
	assert_int_equal(parse("2026-11-22T01:58:16.605073Z"), INT64_C(1795312696605));
	assert_int_equal(parse("2026-11-22T01:58:16.605000+00:00"), INT64_C(1795312696605));
	assert_int_equal(parse("2026-11-22T02:00:00Z"), INT64_C(1795312800000));
	assert_int_equal(parse("2026-11-22T02:00:00+00:00"), INT64_C(1795312800000));
}

static void test_a_fraction_may_have_any_length(void **state)
{
	(void)state;
	assert_int_equal(parse("1970-01-01T00:00:00.5Z"), 500);
	assert_int_equal(parse("1970-01-01T00:00:00.05Z"), 50);
	assert_int_equal(parse("1970-01-01T00:00:00.999Z"), 999);
	assert_int_equal(parse("1970-01-01T00:00:00.9999Z"), 999);
	assert_int_equal(parse("1970-01-01T00:00:00.123456789012345678901234567890Z"), 123);
	assert_int_equal(parse("1970-01-01T00:00:00.000Z"), 0);
}

static void test_an_offset_is_taken_off(void **state)
{
	(void)state;
	assert_int_equal(parse("1970-01-01T01:30:00+01:30"), 0);
	assert_int_equal(parse("1969-12-31T19:00:00-05:00"), 0);
	assert_int_equal(parse("1969-12-31T23:59:59.250Z"), -750);
	assert_int_equal(parse("1970-01-01T00:00:00-23:59"), (23 * 60 + 59) * 60000);
}

/* Every day from 1900 to 2300, with the hours running through. */
static void test_every_day_agrees_with_the_c_library(void **state)
{
	(void)state;
	for (int64_t t = INT64_C(-2208988800); t < INT64_C(10413792000); t += 86400 + 61) {
		time_t at = (time_t)t;
		struct tm tm;
		char text[64];

		assert_non_null(gmtime_r(&at, &tm));
		assert_true(strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm) > 0);
		if (parse(text) != t * 1000)
			fail_msg("%s", text);
	}
}

static void test_leap_days_exist_only_in_leap_years(void **state)
{
	int64_t ms;

	(void)state;
	assert_int_equal(parse("2000-02-29T00:00:00Z"), INT64_C(951782400000));
	assert_int_equal(parse("2028-02-29T00:00:00Z"), INT64_C(1835395200000));
	assert_int_equal(litellm_parse_time("2026-02-29T00:00:00Z", &ms), -EINVAL);
	assert_int_equal(litellm_parse_time("2100-02-29T00:00:00Z", &ms), -EINVAL);
	assert_int_equal(litellm_parse_time("2026-04-31T00:00:00Z", &ms), -EINVAL);
}

static void test_anything_else_is_refused_and_nothing_written(void **state)
{
	static const char *const texts[] = {
		"",
		"Z",
		"null",
		"2026",
		"2026-11-22",
		"2026-11-22T02:00Z",
		"2026-11-22T02:00:00",
		"2026-11-22 02:00:00Z",
		"2026-11-22t02:00:00Z",
		"2026-11-22T02:00:00z",
		"2026-11-22T02:00:00.Z",
		"2026-11-22T02:00:00,5Z",
		"2026-11-22T02:00:00+0000",
		"2026-11-22T02:00:00+00",
		"2026-11-22T02:00:00+24:00",
		"2026-11-22T02:00:00+00:60",
		"2026-11-22T02:00:00ZZ",
		"2026-11-22T02:00:00Z ",
		" 2026-11-22T02:00:00Z",
		"2026-11-22T24:00:00Z",
		"2026-11-22T23:60:00Z",
		"2026-11-22T23:59:60Z",
		"2026-00-22T00:00:00Z",
		"2026-13-22T00:00:00Z",
		"2026-11-00T00:00:00Z",
		"2026-11-32T00:00:00Z",
		"0000-11-22T00:00:00Z",
		"+2026-11-22T00:00:00Z",
		"02026-11-22T00:00:00Z",
		"2026-1-22T00:00:00Z",
		"2026-11-22T-1:00:00Z",
		"2026-11-22T 1:00:00Z",
		"2026-11-22T01:00:00.5",
		"2026-11-22T01:00:00.5+",
	};
	int64_t ms = 42;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (litellm_parse_time(texts[i], &ms) != -EINVAL)
			fail_msg("'%s' was taken", texts[i]);
	assert_int_equal(litellm_parse_time(NULL, &ms), -EINVAL);
	assert_int_equal(ms, 42);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_recorded_forms_are_read),
		cmocka_unit_test(test_a_fraction_may_have_any_length),
		cmocka_unit_test(test_an_offset_is_taken_off),
		cmocka_unit_test(test_every_day_agrees_with_the_c_library),
		cmocka_unit_test(test_leap_days_exist_only_in_leap_years),
		cmocka_unit_test(test_anything_else_is_refused_and_nothing_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
