/* The seal key: made once, by however many; never replaced; never taken from a bad file. */
#include "test.h"

#include <sys/wait.h>

#include "config_fixture.h"
#include "io/seal_key.h"

static void test_path(const struct fixture *f, char path[256])
{
	assert_true(snprintf(path, 256, "%s/.config/keybroker/seal.key", f->dir) < 256);
}

static void test_the_first_start_makes_it(void **state)
{
	struct fixture *f = *state;
	struct secret *first = NULL, *second = NULL;
	char path[256];
	struct stat st;
	int saved = fixture_capture_begin(f);

	assert_int_equal(seal_key_load(false, false, &first), SEAL_KEY_E_MISSING);
	assert_int_equal(seal_key_load(false, true, &first), 0);
	assert_int_equal(seal_key_load(false, true, &second), 0);
	fixture_capture_end(f, saved);
	assert_int_equal(secret_len(first), SEAL_KEY_SIZE);
	assert_true(secret_equal(first, second));
	test_path(f, path);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, 2 * SEAL_KEY_SIZE + 1);
	assert_int_equal(st.st_nlink, 1);
	assert_logged(f, "made the seal key ");
	assert_int_equal(fixture_count_lines(f->log), 1);
	secret_free(first);
	secret_free(second);
}

/* The children begin together, when the pipe closes, and write what they got. */
static void test_ten_at_once_end_with_the_same_key(void **state)
{
	enum { CHILDREN = 10 };
	struct fixture *f = *state;
	int start[2], result[2], saved = fixture_capture_begin(f);
	unsigned char keys[CHILDREN][SEAL_KEY_SIZE];

	assert_int_equal(pipe2(start, O_CLOEXEC), 0);
	assert_int_equal(pipe2(result, O_CLOEXEC), 0);
	for (int i = 0; i < CHILDREN; i++) {
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (pid == 0) {
			struct secret *key = NULL;
			char byte;

			close(start[1]);
			if (read(start[0], &byte, 1) != 0 || seal_key_load(false, true, &key) ||
			    write(result[1], secret_bytes(key), SEAL_KEY_SIZE) != SEAL_KEY_SIZE)
				_exit(1);
			secret_free(key);
			_exit(0);
		}
	}
	close(start[0]);
	close(start[1]);
	for (int i = 0; i < CHILDREN; i++) {
		int status;

		assert_true(TEMP_FAILURE_RETRY(wait(&status)) > 0);
		assert_int_equal(status, 0);
		assert_int_equal(read(result[0], keys[i], SEAL_KEY_SIZE), SEAL_KEY_SIZE);
		assert_memory_equal(keys[i], keys[0], SEAL_KEY_SIZE);
	}
	close(result[0]);
	close(result[1]);
	fixture_capture_end(f, saved);
	assert_int_equal(fixture_count_lines(f->log), 1); /* one of them made it */
}

static void test_a_credential_goes_before_the_file(void **state)
{
	static const char digits[] =
		"000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F\n";
	struct fixture *f = *state;
	struct secret *key = NULL;
	char path[256];

	(void)fixture_write(f, "seal_key", 0400, digits, path);
	assert_int_equal(setenv("CREDENTIALS_DIRECTORY", f->dir, 1), 0);
	assert_int_equal(seal_key_load(false, true, &key), 0);
	for (int i = 0; i < SEAL_KEY_SIZE; i++)
		assert_int_equal(((unsigned char *)secret_bytes(key))[i], i);
	secret_free(key);
	test_path(f, path);
	assert_int_equal(access(path, F_OK), -1);
}

static void test_a_bad_file_is_refused_and_kept(void **state)
{
	static const char no_hex[] =
		"zz0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
	static const char *const bad[] = { "short", "", no_hex };
	struct fixture *f = *state;
	struct secret *key = NULL;
	char path[256];
	struct stat st;

	fixture_mkdir(f, ".config");
	fixture_mkdir(f, ".config/keybroker");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		int saved = fixture_capture_begin(f);

		(void)fixture_write(f, ".config/keybroker/seal.key", 0600, bad[i], path);
		assert_int_equal(seal_key_load(false, true, &key), SEAL_KEY_E_REFUSED);
		fixture_capture_end(f, saved);
		assert_logged(f, "the seal key is not taken: ");
		assert_logged(f, path);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_size, strlen(bad[i]));
	}
	assert_null(key);
}

/* ExecStartPre=+ runs as root; the service behind it does not. */
static void test_root_makes_it_for_the_owner_of_the_state(void **state)
{
	struct fixture *f = *state;
	struct secret *key = NULL, *again = NULL;
	char path[256];
	struct stat st;
	int saved;

	if (geteuid() != 0)
		skip(); /* only root can give files away */
	fixture_mkdir(f, "state");
	assert_true(snprintf(path, sizeof(path), "%s/state", f->dir) < 256);
	assert_int_equal(chown(path, 12345, 12346), 0);
	assert_int_equal(setenv("STATE_DIRECTORY", path, 1), 0);
	saved = fixture_capture_begin(f);
	assert_int_equal(seal_key_load(false, true, &key), 0);
	fixture_capture_end(f, saved);
	assert_int_equal(seal_key_load(false, true, &again), 0); /* at each start of the service */
	assert_true(secret_equal(key, again));
	secret_free(again);
	test_path(f, path);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_uid, 12345);
	assert_int_equal(st.st_mode & 07777, 0600);
	secret_free(key);
}

/* For a program that is told where the broker has it. */
static void test_the_key_is_read_from_where_it_was_found(void **state)
{
	static const char digits[] =
		"000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F\n";
	struct fixture *f = *state;
	struct secret *key = NULL;
	char path[256], expected[256];
	char *source = seal_key_source(false);
	int saved;

	test_path(f, expected);
	assert_string_equal(source, expected); /* where it would be */
	assert_int_equal(seal_key_read(source, &key), SEAL_KEY_E_MISSING);
	free(source);
	(void)fixture_write(f, "seal_key", 0440, digits, path);
	assert_int_equal(setenv("CREDENTIALS_DIRECTORY", f->dir, 1), 0);
	source = seal_key_source(false);
	assert_string_equal(source, path);
	assert_int_equal(seal_key_read(source, &key), 0);
	assert_int_equal(((unsigned char *)secret_bytes(key))[31], 31);
	secret_free(TAKE(key));
	free(source);
	(void)fixture_write(f, "seal_key", 0444, digits, path);
	saved = fixture_capture_begin(f);
	assert_int_equal(seal_key_read(path, &key), SEAL_KEY_E_REFUSED);
	fixture_capture_end(f, saved);
	assert_logged(f, path);
	assert_null(key);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_the_first_start_makes_it),
		TEST(test_ten_at_once_end_with_the_same_key),
		TEST(test_a_credential_goes_before_the_file),
		TEST(test_the_key_is_read_from_where_it_was_found),
		TEST(test_a_bad_file_is_refused_and_kept),
		TEST(test_root_makes_it_for_the_owner_of_the_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
