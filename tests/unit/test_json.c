/* JSON as this program takes and makes it. */
#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

static struct json *parse(const char *text)
{
	return json_parse(text, strlen(text));
}

static void check_refused(const char *text)
{
	struct json *doc = parse(text);

	if (doc)
		fail_msg("taken: %s", text);
}

static void test_values_of_the_right_type_are_read(void **state)
{
	struct json *doc = parse("{\"t\":\"x\",\"i\":-7,\"r\":1.5,\"b\":true,\"n\":null,"
				 "\"a\":[1,\"two\"],\"o\":{\"in\":\"side\"}}");
	int64_t i = 0;

	(void)state;
	assert_non_null(doc);
	assert_string_equal(json_get_text(doc, "t"), "x");
	assert_true(json_get_int(doc, "i", &i));
	assert_int_equal(i, -7);
	assert_true(json_get_bool(doc, "b", false));
	assert_true(json_is_null(json_get(doc, "n")));
	assert_non_null(json_get(doc, "n"));
	assert_true(json_is_array(json_get(doc, "a")));
	assert_int_equal(json_len(json_get(doc, "a")), 2);
	assert_string_equal(json_text(json_at(json_get(doc, "a"), 1)), "two");
	assert_string_equal(json_get_text(json_get(doc, "o"), "in"), "side");
	json_free(doc);
}

static void test_what_is_absent_or_of_another_type_is_the_default(void **state)
{
	struct json *doc = parse("{\"t\":\"x\",\"i\":1}");
	int64_t i = 42;

	(void)state;
	assert_null(json_get_text(doc, "i"));
	assert_null(json_get_text(doc, "none"));
	assert_null(json_get_text(NULL, "none"));
	assert_false(json_get_int(doc, "t", &i));
	assert_int_equal(i, 42);
	assert_true(json_get_bool(doc, "t", true));
	assert_true(json_is_null(json_get(doc, "none")));
	assert_false(json_is_object(NULL));
	assert_false(json_is_object(json_get(doc, "t")));
	assert_int_equal(json_len(NULL), 0);
	assert_null(json_at(doc, 0));
	assert_null(json_get(json_get(doc, "t"), "x"));
	json_free(doc);
}

static void test_anything_but_one_clean_value_is_refused(void **state)
{
	(void)state;
	check_refused("");
	check_refused("{");
	check_refused("{} {}");
	check_refused("{\"a\":1,\"a\":2}");
	check_refused("{\"a\":\"x\\u0000y\"}");
	check_refused("\"\xff\"");
	check_refused("nul");
	check_refused("1e999");
	check_refused("99999999999999999999999");
	assert_null(json_parse(NULL, 0));
	assert_null(json_parse("{}\0", 3));
}

static void check_depth(size_t depth, bool taken)
{
	char text[2048];
	struct json *doc;

	memset(text, '[', depth);
	memset(text + depth, ']', depth);
	doc = json_parse(text, 2 * depth);
	assert_int_equal(doc != NULL, taken);
	json_free(doc);
}

static void test_nesting_has_a_limit(void **state)
{
	struct json *doc;

	(void)state;
	check_depth(1, true);
	check_depth(32, true);
	check_depth(33, false);
	check_depth(1000, false);
	/* brackets in a text are not nesting, whatever it escapes */
	doc = parse("\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[[[[[[[[[[[[[\\\\\"");
	assert_non_null(doc);
	json_free(doc);
}

static void test_a_document_is_built_and_printed(void **state)
{
	struct json *doc = json_new_object(), *list = json_new_array();
	char *text;

	(void)state;
	assert_int_equal(json_add_text(list, "a\"b"), 0);
	assert_int_equal(json_add(list, json_new_object()), 0);
	assert_int_equal(json_set_text(doc, "t", "\xc3\xa4"), 0);
	assert_int_equal(json_set_text(doc, "bad", "\xe4!"), 0);
	assert_int_equal(json_set_exact(doc, "exact", "\xe4!"), -EILSEQ);
	assert_null(json_get(doc, "exact"));
	assert_int_equal(json_set_exact(doc, "t", "\xc3\xa4"), 0);
	assert_int_equal(json_set_int(doc, "i", INT64_MIN), 0);
	assert_int_equal(json_set_number(doc, "n", 0.1), 0);
	assert_int_equal(json_set_bool(doc, "b", false), 0);
	assert_int_equal(json_set(doc, "l", list), 0);
	text = json_dump(doc);
	assert_string_equal(text, "{\"t\":\"\xc3\xa4\",\"bad\":\"?!\",\"i\":-9223372036854775808,"
				  "\"n\":0.1,\"b\":false,\"l\":[\"a\\\"b\",{}]}");
	json_text_free(text);
	json_free(doc);
}

static void test_a_name_is_replaced(void **state)
{
	struct json *doc = json_new_object();
	char *text;

	(void)state;
	assert_int_equal(json_set_int(doc, "a", 1), 0);
	assert_int_equal(json_set_int(doc, "a", 2), 0);
	text = json_dump(doc);
	assert_string_equal(text, "{\"a\":2}");
	json_text_free(text);
	json_free(doc);
	json_free(NULL);
}

static int start(void **state)
{
	(void)state;
	json_init();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values_of_the_right_type_are_read),
		cmocka_unit_test(test_what_is_absent_or_of_another_type_is_the_default),
		cmocka_unit_test(test_anything_but_one_clean_value_is_refused),
		cmocka_unit_test(test_nesting_has_a_limit),
		cmocka_unit_test(test_a_document_is_built_and_printed),
		cmocka_unit_test(test_a_name_is_replaced),
	};

	return cmocka_run_group_tests(tests, start, NULL);
}
