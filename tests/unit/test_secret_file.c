/* Secrets from files: which are taken, and what is said of the others. */
#include "test.h"

#include "config_fixture.h"
#include "io/secret_file.h"

static void test_one_line_is_the_secret(void **state)
{
	static const char *const texts[] = { "sk-a", "sk-a\n", "sk-a\r\n" };
	static const mode_t modes[] = { 0600, 0400, 0700 };
	struct fixture *f = *state;
	char path[256], why[512];

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct secret *s = NULL;

		(void)fixture_write(f, "s", modes[i], texts[i], path);
		assert_int_equal(secret_file_read(path, &s, why), 0);
		assert_int_equal(secret_len(s), 4);
		assert_string_equal(secret_text(s), "sk-a");
		secret_free(s);
	}
}

static void test_refused(const char *path, const char *expected)
{
	struct secret *s = NULL;
	char why[512] = "";

	assert_int_equal(secret_file_read(path, &s, why), SECRET_FILE_E_REFUSED);
	assert_null(s);
	if (!strstr(why, expected))
		fail_msg("%s: %s", path, why);
	assert_non_null(strstr(why, path));
	assert_null(strstr(why, "sk-hidden"));
}

static void test_a_file_that_others_can_read_is_refused(void **state)
{
	static const mode_t modes[] = { 0644, 0640, 0604, 0660, 0601 };
	struct fixture *f = *state;
	char path[256], expected[512];

	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		(void)fixture_write(f, "s", modes[i], "sk-hidden", path);
		(void)snprintf(expected, sizeof(expected),
			       "has mode %04o and is open to others: chmod 600 %s", modes[i], path);
		test_refused(path, expected);
	}
}

static void test_what_is_no_secret_is_refused(void **state)
{
	struct fixture *f = *state;
	char path[256], big[SECRET_MAX + 2];

	test_refused(fixture_write(f, "s", 0600, "", path), "is empty");
	test_refused(fixture_write(f, "s", 0600, "\n", path), "is empty");
	test_refused(fixture_write(f, "s", 0600, "sk-hidden 1", path), "one line of printable");
	test_refused(fixture_write(f, "s", 0600, "sk-hidden\nsk-hidden\n", path), "one line");
	test_refused(fixture_write(f, "s", 0600, "sk-hidden\n\n", path), "one line");
	test_refused(fixture_write(f, "s", 0600, "sk-hidden\x7f", path), "one line");
	memset(big, 'a', sizeof(big));
	big[sizeof(big) - 1] = '\0';
	test_refused(fixture_write(f, "s", 0600, big, path), "is longer than 4096 bytes");
	test_refused(f->dir, "is no regular file");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	test_refused(path, "is no regular file");
}

static void test_a_missing_file_is_told_apart(void **state)
{
	struct fixture *f = *state;
	struct secret *s = NULL;
	char path[256], why[512];

	assert_true(snprintf(path, sizeof(path), "%s/none", f->dir) < 256);
	assert_int_equal(secret_file_read(path, &s, why), SECRET_FILE_E_MISSING);
	assert_non_null(strstr(why, "/none does not exist"));
}

static void test_a_link_is_judged_by_what_it_leads_to(void **state)
{
	struct fixture *f = *state;
	struct secret *s = NULL;
	char path[256], link_path[256], why[512];

	(void)fixture_write(f, "s", 0600, "sk-a", path);
	assert_true(snprintf(link_path, sizeof(link_path), "%s/link", f->dir) < 256);
	assert_int_equal(symlink(path, link_path), 0);
	assert_int_equal(secret_file_read(link_path, &s, why), 0);
	secret_free(s);
	assert_int_equal(chmod(path, 0644), 0);
	test_refused(link_path, "mode 0644");
}

static void test_another_user_s_file_is_refused(void **state)
{
	struct fixture *f = *state;
	char path[256];

	if (geteuid() != 0)
		skip(); /* only root can give files away */
	(void)fixture_write(f, "s", 0600, "sk-hidden", path);
	assert_int_equal(chown(path, 12345, 12345), 0);
	test_refused(path, "belongs to uid 12345");
	assert_int_equal(chown(path, 1, 1), 0);
	test_refused(path, "(uid 1), not to root: run this as that user (runuser -u ");
}

static void test_credentials_are_found_by_name(void **state)
{
	static const char *const names[] = { "first", "second", NULL };
	struct fixture *f = *state;
	struct secret *s = NULL;
	char path[256], why[512];

	assert_int_equal(secret_file_read_credential(names, &s, why), SECRET_FILE_E_MISSING);
	assert_int_equal(setenv("CREDENTIALS_DIRECTORY", f->dir, 1), 0);
	assert_int_equal(secret_file_read_credential(names, &s, why), SECRET_FILE_E_MISSING);
	(void)fixture_write(f, "second", 0440, "two", path);
	assert_int_equal(secret_file_read_credential(names, &s, why), 0);
	assert_string_equal(secret_text(s), "two");
	secret_free(s);
	s = NULL;
	(void)fixture_write(f, "first", 0400, "one", path);
	assert_int_equal(secret_file_read_credential(names, &s, why), 0);
	assert_string_equal(secret_text(s), "one");
	secret_free(s);
	s = NULL;
	/* one that is there and bad is not passed over */
	assert_int_equal(chmod(path, 0444), 0);
	assert_int_equal(secret_file_read_credential(names, &s, why), SECRET_FILE_E_REFUSED);
	assert_non_null(strstr(why, "mode 0444"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_one_line_is_the_secret),
		TEST(test_a_file_that_others_can_read_is_refused),
		TEST(test_what_is_no_secret_is_refused),
		TEST(test_a_missing_file_is_told_apart),
		TEST(test_a_link_is_judged_by_what_it_leads_to),
		TEST(test_another_user_s_file_is_refused),
		TEST(test_credentials_are_found_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
