/* Where the programs beside this one are, and what comes of running one. */
#include "test_stderr.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "cli/cli.h"
#include "cli/libexec.h"

static void test_the_variable_goes_first(void **state)
{
	_cleanup_(freep) char *path = NULL;

	(void)state;
	assert_int_equal(setenv("KEYBROKER_LIBEXEC", "/some/where", 1), 0);
	path = libexec_find("audit");
	assert_string_equal(path, "/some/where/audit");
	assert_int_equal(unsetenv("KEYBROKER_LIBEXEC"), 0);
}

/* This test runs from the build tree, one directory below the program's. */
static void test_the_build_tree_comes_next(void **state)
{
	_cleanup_(freep) char *path = libexec_find("audit"), *nowhere = libexec_find("nothing");
	struct stat st;

	(void)state;
	assert_non_null(strstr(path, "/../libexec/keybroker/audit"));
	assert_int_equal(stat(path, &st), 0);
	assert_string_equal(strrchr(nowhere, '/'), "/nothing"); /* what an error will name */
	assert_null(strstr(nowhere, "/../"));
}

static int test_run(const char *script)
{
	char sh[] = "/bin/sh", option[] = "-c", *text = xstrdup(script);
	char *argv[] = { sh, option, text, NULL };
	int r = libexec_run(argv);

	free(text);
	return r;
}

static void test_its_exit_code_is_ours(void **state)
{
	struct capture c;
	char nowhere[] = "/no/such/program", *argv[] = { nowhere, NULL };

	(void)state;
	assert_int_equal(test_run("exit 0"), 0);
	assert_int_equal(test_run("exit 77"), 77);
	capture_begin(&c);
	assert_int_equal(test_run("kill -9 $$"), CLI_SOFTWARE);
	assert_non_null(strstr(capture_end(&c), "signal 9"));
	capture_begin(&c);
	assert_int_equal(libexec_run(argv), CLI_SOFTWARE);
	assert_non_null(strstr(capture_end(&c), "KEYBROKER_LIBEXEC"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_variable_goes_first),
		cmocka_unit_test(test_the_build_tree_comes_next),
		cmocka_unit_test(test_its_exit_code_is_ours),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
