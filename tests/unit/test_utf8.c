/* What others wrote becomes UTF-8, and what is UTF-8 stays as it is. */
#include "test.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "base/utf8.h"

static void check(const char *text, const char *expected)
{
	size_t n = strlen(text) + 1;
	char *copy = malloc(n); /* of its own size, so that a sanitizer sees what reads too far */

	assert_non_null(copy);
	memcpy(copy, text, n);
	assert_int_equal(utf8_is_good(copy, n - 1), strcmp(text, expected) == 0);
	utf8_clean(copy);
	assert_true(utf8_is_good(copy, strlen(copy)));
	assert_string_equal(copy, expected);
	free(copy);
}

static void test_good_text_stays(void **state)
{
	static const char *const texts[] = {
		"",
		"plain\n\t\x01\x7f",
		"\xc2\x80",
		"\xdf\xbf",
		"\xe0\xa0\x80",
		"\xed\x9f\xbf",
		"\xee\x80\x80",
		"\xef\xbf\xbf",
		"\xf0\x90\x80\x80",
		"\xf4\x8f\xbf\xbf",
		"a\xc3\xa4z\xe2\x82\xacq\xf0\x9f\x98\x80!",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		check(texts[i], texts[i]);
}

static void test_bad_bytes_become_question_marks(void **state)
{
	static const char *const rows[][2] = {
		{ "a\x80z", "a?z" },		  /* goes on what never began */
		{ "\xff\xfey", "??y" },		  /* no character begins so */
		{ "\xc0\xafy", "??y" },		  /* overlong "/" */
		{ "\xc1\xbfy", "??y" },		  /* overlong */
		{ "\xe0\x9f\xbfy", "???y" },	  /* overlong */
		{ "\xf0\x8f\xbf\xbfy", "????y" }, /* overlong */
		{ "\xed\xa0\x80y", "???y" },	  /* a surrogate */
		{ "\xf4\x90\x80\x80y", "????y" }, /* over U+10FFFF */
		{ "\xf5\x80\x80\x80y", "????y" }, /* no character begins so */
		{ "\xc3y", "?y" },		  /* broken off by another */
		{ "\xe2\x82y", "??y" },
		{ "\xf0\x9f\x98y", "???y" },
		{ "\xe2\xe2\x82\xac", "?\xe2\x82\xac" }, /* the next one is whole */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		check(rows[i][0], rows[i][1]);
}

static void test_half_a_character_at_the_end_goes(void **state)
{
	static const char whole[] = "a\xf0\x9f\x98\x80";
	char text[sizeof(whole)];

	(void)state;
	for (size_t n = 1; n <= 4; n++) {
		memcpy(text, whole, sizeof(whole));
		text[n] = '\0';
		check(text, "a");
	}
	check("\xe2\x82", "");
	check("x\xc3", "x");
	check("\xff\xc3", "?");
}

static void test_nul_is_no_good(void **state)
{
	(void)state;
	assert_false(utf8_is_good("a\0b", 3));
	assert_true(utf8_is_good("a\0b", 1));
}

static void test_texts_are_cut_between_characters(void **state)
{
	static const char text[] = "a\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80";
	static const size_t kept[] = { 0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 10 };
	char to[8];

	(void)state;
	for (size_t n = 0; n < ARRAY_SIZE(kept); n++)
		assert_int_equal(text_cut(text, n), kept[n]);
	assert_int_equal(text_cut("\x80\x80\x80\x80\x80", 4), 1); /* no character at all */
	text_copy(to, sizeof(to), text);
	assert_string_equal(to, "a\xc3\xbc\xe2\x82\xac");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_text_stays),
		cmocka_unit_test(test_bad_bytes_become_question_marks),
		cmocka_unit_test(test_half_a_character_at_the_end_goes),
		cmocka_unit_test(test_nul_is_no_good),
		cmocka_unit_test(test_texts_are_cut_between_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
