/* Secrets: copied whole, NUL-terminated, bounded, compared byte by byte, and locked away. */
#include "test.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/secret.h"

static void test_a_secret_is_a_copy(void **state)
{
	char text[] = "sk-abc";
	_cleanup_(secret_freep) struct secret *s = secret_new(text, strlen(text));

	(void)state;
	assert_non_null(s);
	memset(text, 'x', strlen(text));
	assert_string_equal(secret_text(s), "sk-abc");
	assert_int_equal(secret_len(s), 6);
	assert_ptr_equal(secret_bytes(s), secret_text(s));
}

/* Each alignment of the end of the guarded page. */
static void test_a_nul_follows_whatever_the_length(void **state)
{
	uint8_t bytes[64];

	(void)state;
	memset(bytes, 0xff, sizeof(bytes));
	for (size_t n = 0; n <= sizeof(bytes); n++) {
		_cleanup_(secret_freep) struct secret *s = secret_new(bytes, n);

		assert_non_null(s);
		assert_int_equal(secret_len(s), n);
		assert_memory_equal(secret_text(s), bytes, n);
		assert_int_equal(secret_text(s)[n], '\0');
	}
}

static void test_nul_bytes_are_bytes(void **state)
{
	_cleanup_(secret_freep) struct secret *a = secret_new("a\0b", 3);
	_cleanup_(secret_freep) struct secret *b = secret_new("a\0c", 3);

	(void)state;
	assert_int_equal(secret_len(a), 3);
	assert_memory_equal(secret_text(a), "a\0b", 4);
	assert_false(secret_equal(a, b));
}

static void test_too_long_is_refused(void **state)
{
	static const char bytes[SECRET_MAX + 1];
	_cleanup_(secret_freep) struct secret *most = secret_new(bytes, SECRET_MAX);

	(void)state;
	assert_non_null(most);
	assert_int_equal(secret_len(most), SECRET_MAX);
	assert_null(secret_new(bytes, SECRET_MAX + 1));
	assert_null(secret_new_empty(SECRET_MAX + 1));
	assert_null(secret_new_empty(SIZE_MAX));
}

static void test_an_empty_one_is_zero_and_can_be_filled(void **state)
{
	static const char zeroes[33];
	_cleanup_(secret_freep) struct secret *s = secret_new_empty(32);

	(void)state;
	assert_non_null(s);
	assert_memory_equal(secret_text(s), zeroes, sizeof(zeroes));
	memset(secret_bytes(s), 'k', 32);
	assert_int_equal(strlen(secret_text(s)), 32);
}

static void test_equal_means_every_byte(void **state)
{
	static const char text[] = "0123456789abcdef0123456789abcdef";
	const size_t n = sizeof(text) - 1;
	_cleanup_(secret_freep) struct secret *a = secret_new(text, n);
	_cleanup_(secret_freep) struct secret *b = secret_copy(a);
	_cleanup_(secret_freep) struct secret *shorter = secret_new(text, n - 1);
	_cleanup_(secret_freep) struct secret *none = secret_new(NULL, 0);
	_cleanup_(secret_freep) struct secret *nothing = secret_new_empty(0);

	(void)state;
	assert_ptr_not_equal(a, b);
	assert_true(secret_equal(a, b));
	assert_true(secret_equal(a, a));
	assert_false(secret_equal(a, shorter));
	assert_false(secret_equal(shorter, a));
	assert_false(secret_equal(a, none));
	assert_true(secret_equal(none, nothing));
	for (size_t i = 0; i < n; i++) {
		((char *)secret_bytes(b))[i] ^= 1;
		assert_false(secret_equal(a, b));
		((char *)secret_bytes(b))[i] ^= 1;
	}
	assert_true(secret_equal(a, b));
}

static void test_a_copy_outlives_the_original(void **state)
{
	struct secret *a = secret_new("one", 3);
	_cleanup_(secret_freep) struct secret *b = secret_copy(a);

	(void)state;
	secret_free(a);
	secret_free(NULL);
	assert_string_equal(secret_text(b), "one");
}

/* Guarded memory ends the process that runs over its end; reading it is enough. */
static void test_running_over_the_end_is_fatal(void **state)
{
	_cleanup_(secret_freep) struct secret *s = secret_new("0123456", 7);
	int status = 0;
	pid_t pid;

	(void)state;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		const volatile char *end = secret_text(s);

		(void)signal(SIGSEGV, SIG_DFL); /* a sanitizer would report what is meant */
		_exit(end[8]);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSEGV);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_secret_is_a_copy),
		cmocka_unit_test(test_a_nul_follows_whatever_the_length),
		cmocka_unit_test(test_nul_bytes_are_bytes),
		cmocka_unit_test(test_too_long_is_refused),
		cmocka_unit_test(test_an_empty_one_is_zero_and_can_be_filled),
		cmocka_unit_test(test_equal_means_every_byte),
		cmocka_unit_test(test_a_copy_outlives_the_original),
		cmocka_unit_test(test_running_over_the_end_is_fatal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
