/* The names of the error codes: each goes out and comes back, and what is unknown is internal. */
#include "test.h"

#include "proto/errors.h"

static void test_each_name_is_its_own_code(void **state)
{
	(void)state;
	for (int code = 0; code < PROTO_N_ERRORS; code++)
		assert_int_equal(proto_error_from_name(proto_error_name(code)), code);
	assert_string_equal(proto_error_name(PROTO_UPSTREAM_REFUSED), "upstream_refused");
}

static void test_unknown_is_internal(void **state)
{
	(void)state;
	assert_int_equal(proto_error_from_name("tea_time"), PROTO_INTERNAL);
	assert_int_equal(proto_error_from_name(NULL), PROTO_INTERNAL);
	assert_string_equal(proto_error_name((enum proto_error)99), "internal");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_name_is_its_own_code),
		cmocka_unit_test(test_unknown_is_internal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
