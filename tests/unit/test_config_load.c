/* What config_load() does around files and variables: places, flags, reload, --timing. */
#include "test.h"

#include "config_fixture.h"

static void test_env(const char *name, const char *value)
{
	assert_int_equal(setenv(name, value, 1), 0);
}

static int test_setup(void **state)
{
	int r = fixture_setup(state);

	test_env("LITELLM_BASE_URL", "http://127.0.0.1:4000");
	test_env("LITELLM_MASTER_KEY", "sk-test-master-key");
	return r;
}

static void test_flags_are_made_absolute(void **state)
{
	struct fixture *f = *state;
	struct config_request req = { .socket = "k.sock",
				      .admin_socket = "/a.sock",
				      .state_dir = "s",
				      .log_level = "debug",
				      .instance = "b" };
	char path[256];

	assert_int_equal(chdir(f->dir), 0);
	assert_int_equal(fixture_load_request(f, &req), 0);
	assert_int_equal(chdir("/"), 0);
	assert_true(snprintf(path, sizeof(path), "%s/k.sock", f->dir) < 256);
	assert_string_equal(f->config->socket_path, path);
	assert_true(snprintf(path, sizeof(path), "%s/s", f->dir) < 256);
	assert_string_equal(f->config->state_dir, path);
	assert_string_equal(f->config->admin_socket_path, "/a.sock");
	assert_int_equal(f->config->log_level, LOG_LEVEL_DEBUG);
	assert_string_equal(f->config->instance, "b");
}

static void test_a_bad_flag_is_named(void **state)
{
	struct fixture *f = *state;
	struct config_request req = { .log_level = "loud" };

	assert_int_equal(fixture_load_request(f, &req), CONFIG_E_INVALID);
	assert_logged(f, "--log-level: \"loud\" must be one of error, warning, info, debug");
}

static void test_the_system_mode_has_the_system_s_places(void **state)
{
	struct fixture *f = *state;
	struct config_request req = { .system_mode = true };

	assert_int_equal(fixture_load_request(f, &req), 0);
	assert_true(f->config->system_mode);
	assert_string_equal(f->config->socket_path, "/run/keybroker/keybroker.sock");
	assert_string_equal(f->config->admin_socket_path, "/run/keybroker-admin/admin.sock");
	assert_string_equal(f->config->state_dir, "/var/lib/keybroker");
	assert_string_equal(f->config->instance, "main");
}

static void test_a_reload_reads_the_key_file_again(void **state)
{
	struct fixture *f = *state;
	struct config_request req = { 0 };
	char path[256];

	test_env("LITELLM_MASTER_KEY_FILE", fixture_write(f, "k", 0600, "sk-one", path));
	assert_int_equal(fixture_load(f, NULL), 0);
	assert_string_equal(secret_text(f->config->master_key), "sk-one");
	(void)fixture_write(f, "k", 0600, "sk-two", path);
	config_free(f->config);
	f->config = NULL;
	req.env = f->env;
	assert_int_equal(config_load(&req, &f->config), 0);
	assert_string_equal(secret_text(f->config->master_key), "sk-two");
}

static void test_a_warning_of_the_start_is_not_repeated(void **state)
{
	struct fixture *f = *state;
	int saved;

	test_env("LITELLM_TOKEN_LOCK_STALE_MS", "1");
	test_env("OPENAI_BASE_URL", "https://other.example.org");
	assert_int_equal(fixture_load(f, NULL), 0);
	saved = fixture_capture_begin(f);
	config_warn(f->config, false);
	fixture_capture_end(f, saved);
	assert_logged(f, "LITELLM_TOKEN_LOCK_STALE_MS");
	assert_logged(f, "other.example.org");
	saved = fixture_capture_begin(f);
	config_warn(f->config, true);
	fixture_capture_end(f, saved);
	assert_null(strstr(f->log, "LITELLM_TOKEN_LOCK_STALE_MS"));
	assert_logged(f, "other.example.org");
	assert_logged(f, "the environment is read at the start only");
}

/* `LITELLM_BASE_URL` beside a file with url and key: the key is for the file's host alone. */
static void test_the_file_s_key_does_not_go_to_another_url(void **state)
{
	struct fixture *f = *state;
	char path[256], text[512];

	(void)fixture_write(f, "master", 0600, "sk-of-the-file", path);
	assert_true(snprintf(text, sizeof(text),
			     "upstream {\n url = \"https://A.example.org/v1\"\n"
			     " master_key_file = \"%s\"\n}\n",
			     path) < (int)sizeof(text));
	test_env("LITELLM_BASE_URL", "https://b.example.org");
	test_env("LITELLM_MASTER_KEY", "");
	assert_int_equal(fixture_load(f, text), CONFIG_E_INVALID);
	assert_logged(f, "LITELLM_BASE_URL: there is no master key for https://b.example.org: the "
			 "one of ");
	assert_logged(f, "keybroker.conf:3 is for https://A.example.org and goes nowhere else");
	assert_int_equal(fixture_count_lines(f->log), 1);
	test_env("LITELLM_MASTER_KEY", "sk-of-b");
	assert_int_equal(fixture_load(f, text), 0);
	assert_string_equal(secret_text(f->config->master_key), "sk-of-b");
	assert_int_equal(f->config->master_key_source, MASTER_KEY_ENV);
	assert_non_null(strstr(f->config->warnings[0], "keybroker.conf:3 is not used"));
	/* the same place in other words */
	test_env("LITELLM_BASE_URL", "https://a.example.org:443/");
	assert_int_equal(fixture_load(f, text), 0);
	assert_string_equal(secret_text(f->config->master_key), "sk-of-the-file");
	/* a file of the variable's goes with the variable's URL; so does a credential */
	test_env("LITELLM_BASE_URL", "https://b.example.org");
	test_env("LITELLM_MASTER_KEY", "");
	test_env("LITELLM_MASTER_KEY_FILE", fixture_write(f, "b", 0600, "sk-b-file", path));
	assert_int_equal(fixture_load(f, text), 0);
	assert_string_equal(secret_text(f->config->master_key), "sk-b-file");
	test_env("LITELLM_MASTER_KEY_FILE", "");
	fixture_mkdir(f, "credentials");
	(void)fixture_write(f, "credentials/master_key", 0400, "sk-credential", path);
	*strrchr(path, '/') = '\0';
	test_env("CREDENTIALS_DIRECTORY", path);
	assert_int_equal(fixture_load(f, text), 0);
	assert_string_equal(secret_text(f->config->master_key), "sk-credential");
}

static void test_a_file_with_a_key_alone_goes_with_any_url(void **state)
{
	struct fixture *f = *state;
	char path[256], text[512];

	(void)fixture_write(f, "master", 0600, "sk-of-the-file", path);
	assert_true(snprintf(text, sizeof(text), "upstream { master_key_file = \"%s\" }\n", path) <
		    (int)sizeof(text));
	test_env("LITELLM_BASE_URL", "https://b.example.org");
	assert_int_equal(fixture_load(f, text), 0);
	assert_string_equal(secret_text(f->config->master_key), "sk-of-the-file");
}

#ifdef KEYBROKER_TESTING
static void test_a_testing_build_takes_other_times(void **state)
{
	struct fixture *f = *state;
	struct config_request req = { 0 };
	char path[256];

	test_env("LITELLM_KEY_DURATION", "30s");
	req.timing_file =
		fixture_write(f, "timing", 0600,
			      "# short\n\ngrace_ms 5 # here too\n duration_min_ms 1000\n", path);
	assert_int_equal(fixture_load_request(f, &req), 0);
	assert_int_equal(f->config->timing.grace_ms, 5);
	(void)fixture_write(f, "timing", 0600, "grace 5\ngrace_ms -1\ngrace_ms\n1 2 3\n", path);
	assert_int_equal(fixture_load_request(f, &req), CONFIG_E_INVALID);
	assert_logged(f, "timing:1: grace cannot be 5");
	assert_logged(f, "timing:2: grace_ms cannot be -1");
	assert_logged(f, "timing:3: a line must be a name and a number");
	assert_logged(f, "timing:4: a line must be a name and a number");
	req.timing_file = "/nonexistent";
	assert_int_equal(fixture_load_request(f, &req), CONFIG_E_INVALID);
	assert_logged(f, "--timing: /nonexistent: No such file");
}
#endif

#define TEST(name) cmocka_unit_test_setup_teardown(name, test_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_flags_are_made_absolute),
		TEST(test_a_bad_flag_is_named),
		TEST(test_the_system_mode_has_the_system_s_places),
		TEST(test_a_reload_reads_the_key_file_again),
		TEST(test_a_warning_of_the_start_is_not_repeated),
		TEST(test_the_file_s_key_does_not_go_to_another_url),
		TEST(test_a_file_with_a_key_alone_goes_with_any_url),
#ifdef KEYBROKER_TESTING
		TEST(test_a_testing_build_takes_other_times),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
