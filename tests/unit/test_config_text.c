/* The walk before libConfuse: what becomes blank, and that nothing else changes. */
#include "test.h"

#include <string.h>

#include "core/config_build.h"
#include "io/config_text.h"

static void test_ignore(_unused_ void *userdata, _unused_ const char *origin,
			_unused_ const char *message)
{
}

static void assert_cleaned(const char *text, const char *expected)
{
	struct config_report report = { .error = test_ignore };
	char copy[256];

	assert_int_equal(strlen(text), strlen(expected));
	strcpy(copy, text);
	assert_true(config_text_clean("f", copy, strlen(copy), &report));
	assert_string_equal(copy, expected);
}

static void test_comments_become_spaces_and_lines_stay(_unused_ void **state)
{
	assert_cleaned("", "");
	assert_cleaned("# x\na = 1 # y\n", "   \na = 1    \n");
	assert_cleaned("a//b // c", "a//b     ");
	assert_cleaned("a=//c\n1", "a=   \n1");
	assert_cleaned("/* x\n * y */ a", "    \n        a");
	assert_cleaned("/**/a /***/", "    a      ");
}

static void test_strings_are_left_alone(_unused_ void **state)
{
	assert_cleaned("a = \"# // /* \\\" */\"", "a = \"# // /* \\\" */\"");
	assert_cleaned("a = '# // \\' /*'", "a = '# // \\' /*'");
	assert_cleaned("u = http://h/v1", "u = http://h/v1");
	assert_cleaned("\xef\xbb\xbf"
		       "a=1\r\n",
		       "   a=1 \n");
}

static void test_whatever_the_lexer_would_take_amiss_is_refused(_unused_ void **state)
{
	static const char *const bad[] = { "a = \"${x}\"",  "${x}",	"a = 'x", "a = \"x",
					   "a = \"x\ny\"",  "a = \"\\", "/* x",	  "a = {}",
					   "a = { /* */ }", "{",	"a = *",  "a + 1",
					   "\"\" = 1" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct config_report report = { .error = test_ignore };
		char copy[64];

		strcpy(copy, bad[i]);
		if (config_text_clean("f", copy, strlen(copy), &report))
			fail_msg("%s was taken", bad[i]);
		assert_true(report.n_errors > 0);
	}
}

static void test_a_nul_byte_does_not_end_the_walk(_unused_ void **state)
{
	struct config_report report = { .error = test_ignore };
	char text[] = "a = 1\n\0b = 2";

	assert_false(config_text_clean("f", text, sizeof(text) - 1, &report));
	assert_int_equal(report.n_errors, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_comments_become_spaces_and_lines_stay),
		cmocka_unit_test(test_strings_are_left_alone),
		cmocka_unit_test(test_whatever_the_lexer_would_take_amiss_is_refused),
		cmocka_unit_test(test_a_nul_byte_does_not_end_the_walk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
