/* What a team has, held against what the configuration sets. */
#include "test.h"

#include <string.h>

#include "core/litellm_team.h"

static void test_differences_in_words(void **state)
{
	char month[] = "30d", week[] = "7d";
	static const struct litellm_team bare = { .max_budget = -1,
						  .rpm_limit = -1,
						  .tpm_limit = -1 };
	static const struct litellm_team full = {
		.max_budget = 10.5, .rpm_limit = 100, .tpm_limit = 0, .budget_duration = "30d"
	};
	const struct {
		const struct litellm_team *team;
		struct key_limits wanted;
		const char *said;
	} cases[] = {
		{ &bare, { -1, -1, -1, NULL }, "" },
		{ &full, { -1, -1, -1, NULL }, "" }, /* what is not set may be anything */
		{ &full, { 10.5, 100, 0, month }, "" },
		{ &full, { 10.5000001, -1, -1, NULL }, "" }, /* less than a millionth */
		{ &full, { 10.51, -1, -1, NULL }, "max_budget is 10.5, not 10.51" },
		{ &bare, { 0, -1, -1, NULL }, "max_budget is none, not 0" },
		{ &full, { -1, -1, -1, week }, "budget_duration is 30d, not 7d" },
		{ &bare,
		  { -1, 5, 0, month },
		  "budget_duration is none, not 30d; rpm_limit is none, not 5; tpm_limit is none, "
		  "not 0" },
	};
	char said[256];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		bool differs =
			litellm_team_differs(cases[i].team, &cases[i].wanted, said, sizeof(said));

		assert_string_equal(said, cases[i].said);
		assert_int_equal(differs, *cases[i].said != '\0');
	}
}

/* What does not fit is cut, and still text. */
static void test_differences_in_little_room(void **state)
{
	char week[] = "7d", said[24];
	const struct litellm_team odd = { .max_budget = -1, .budget_duration = "\xc3\xa4\xc3\xa4" };
	const struct key_limits wanted = { 3, 5, 5, week };

	(void)state;
	for (size_t size = 2; size <= sizeof(said); size++) {
		assert_true(litellm_team_differs(&odd, &wanted, said, size));
		assert_true(strlen(said) < size);
	}
}

static void test_millionths(void **state)
{
	(void)state;
	assert_int_equal(litellm_micros(0), 0);
	assert_int_equal(litellm_micros(0.1 + 0.2), 300000);
	assert_int_equal(litellm_micros(1e-7), 0);
	assert_int_equal(litellm_micros(-1), -1000000);
	assert_int_equal(litellm_micros(1e300), INT64_MAX);
	assert_int_equal(litellm_micros(-1e300), INT64_MIN);
	assert_int_equal(litellm_micros(__builtin_nan("")), INT64_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_differences_in_words),
		cmocka_unit_test(test_differences_in_little_room),
		cmocka_unit_test(test_millionths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
