/* Allocation that never answers NULL: it works or ends the process, and says why. */
#include "test_stderr.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/alloc.h"

/* Under a sanitizer too, what can't be had is NULL: its own end would come first. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

static void test_fresh_memory_is_zero(void **state)
{
	static const char zeroes[4096];
	_cleanup_(freep) void *p = xcalloc(64, 64);

	(void)state;
	assert_memory_equal(p, zeroes, sizeof(zeroes));
}

static void test_nothing_is_still_an_allocation(void **state)
{
	_cleanup_(freep) void *a = xcalloc(0, 8);
	_cleanup_(freep) void *b = xcalloc(8, 0);
	_cleanup_(freep) void *c = xrealloc(NULL, 0, 0);

	(void)state;
	assert_non_null(a);
	assert_non_null(b);
	assert_non_null(c);
}

static void test_growing_keeps_what_is_there(void **state)
{
	_cleanup_(freep) char *p = xcalloc(4, 1);

	(void)state;
	memcpy(p, "abc", 4);
	p = xrealloc(p, 1000, 1000);
	assert_string_equal(p, "abc");
}

static void test_strings_are_copied_and_null_stays(void **state)
{
	char text[] = "text";
	_cleanup_(freep) char *copy = xstrdup(text);
	_cleanup_(freep) char *made = xasprintf("%s-%d", text, 12);
	_cleanup_(freep) char *empty = xasprintf("%s", "");

	(void)state;
	text[0] = 'n';
	assert_string_equal(copy, "text");
	assert_string_equal(made, "text-12");
	assert_string_equal(empty, "");
	assert_null(xstrdup(NULL));
}

static void test_freep_leaves_null(void **state)
{
	char *p = xstrdup("x");

	(void)state;
	freep(&p);
	assert_null(p);
	freep(&p);
}

/* Runs one that can't be had; what it said must be on stderr. */
static void test_dies(void *(*allocate)(void))
{
	struct capture c;
	int status = 0;
	pid_t pid;

	capture_begin(&c);
	pid = fork();
	if (pid == 0) {
		const struct rlimit none = { 0 };

		(void)setrlimit(RLIMIT_CORE, &none);
		(void)signal(SIGABRT, SIG_DFL);
		_exit(allocate() ? 1 : 2);
	}
	(void)waitpid(pid, &status, 0);
	(void)capture_end(&c);
	assert_true(pid > 0);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
	assert_non_null(strstr(c.text, "out of memory\n"));
}

static void *test_overflowing_calloc(void)
{
	volatile size_t n = SIZE_MAX / 2;

	return xcalloc(n, 3);
}

static void *test_overflowing_realloc(void)
{
	volatile size_t n = SIZE_MAX / 2;

	return xrealloc(NULL, n, 3);
}

/* A product that wraps to something small must not be answered with something small. */
static void test_what_cannot_be_had_ends_the_process(void **state)
{
	(void)state;
	test_dies(test_overflowing_calloc);
	test_dies(test_overflowing_realloc);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fresh_memory_is_zero),
		cmocka_unit_test(test_nothing_is_still_an_allocation),
		cmocka_unit_test(test_growing_keeps_what_is_there),
		cmocka_unit_test(test_strings_are_copied_and_null_stays),
		cmocka_unit_test(test_freep_leaves_null),
		cmocka_unit_test(test_what_cannot_be_had_ends_the_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
