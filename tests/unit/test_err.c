/* An unexpected error is logged where it arises and goes on unchanged. */
#include "test_stderr.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"

static int test_fails(void)
{
	return err_origin(-ENOSPC);
}

static void test_the_place_is_logged_and_the_error_returned(void **state)
{
	struct capture c;
	int r;

	(void)state;
	capture_begin(&c);
	r = test_fails();
	(void)capture_end(&c);
	assert_int_equal(r, -ENOSPC);
	assert_non_null(strstr(c.text, "error: No space left on device (test_fails, test_err.c:"));
	assert_null(strchr(c.text, '/')); /* the file alone, not where it was built */
	assert_ptr_equal(strchr(c.text, '\n'), c.text + strlen(c.text) - 1);
}

static void test_any_number_and_any_file_name_will_do(void **state)
{
	static const struct {
		int r;
		const char *file, *text;
	} cases[] = {
		{ -EIO, "/a/b/c.c", "Input/output error (f, c.c:12)" },
		{ -EIO, "c.c", "Input/output error (f, c.c:12)" },
		{ -EIO, "a/", "Input/output error (f, :12)" },
		{ -99999, "c.c", "unknown error (f, c.c:12)" },
		{ 7, "c.c", "unknown error (f, c.c:12)" },
	};
	struct capture c;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int r;

		capture_begin(&c);
		r = err_origin_at(cases[i].r, cases[i].file, 12, "f");
		(void)capture_end(&c);
		assert_int_equal(r, cases[i].r);
		assert_non_null(strstr(c.text, cases[i].text));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_place_is_logged_and_the_error_returned),
		cmocka_unit_test(test_any_number_and_any_file_name_will_do),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
