/* The environment that LiteLLM's users know: every variable, its default, its errors. */
#include "test.h"

#include <sys/wait.h>

#include "config_fixture.h"

static void test_env(const char *name, const char *value)
{
	assert_int_equal(setenv(name, value, 1), 0);
}

static void test_upstream(void)
{
	test_env("LITELLM_BASE_URL", "http://127.0.0.1:4000");
	test_env("LITELLM_MASTER_KEY", "sk-test-master-key");
}

static const struct profile *test_profile(const struct fixture *f, const char *name)
{
	const struct profile *p = config_profile(f->config, name);

	assert_non_null(p);
	return p;
}

static void test_two_variables_are_enough(void **state)
{
	struct fixture *f = *state;
	const struct profile *service, *process;

	test_upstream();
	assert_int_equal(fixture_load(f, NULL), 0);
	assert_string_equal(f->config->upstream_url, "http://127.0.0.1:4000");
	assert_string_equal(secret_text(f->config->master_key), "sk-test-master-key");
	assert_int_equal(f->config->master_key_source, MASTER_KEY_ENV);
	assert_true(f->config->cleanup_old_keys);
	assert_int_equal(f->config->timing.info_timeout_ms, 2000);
	assert_int_equal(f->config->timing.retry_attempts, 3);
	assert_int_equal(f->config->timing.retry_base_ms, 300);
	assert_int_equal(f->config->n_profiles, 2);
	service = test_profile(f, "service");
	assert_int_equal(service->mode, PROFILE_SHARED);
	assert_string_equal(service->team_alias, "agents-service");
	assert_string_equal(service->alias, "agents-service");
	assert_int_equal(service->n_models, 1);
	assert_string_equal(service->models[0], "all-team-models");
	assert_null(service->duration);
	process = test_profile(f, "process");
	assert_int_equal(process->mode, PROFILE_DEDICATED);
	assert_string_equal(process->models[0], "gpt-5");
	assert_string_equal(process->duration, "30d");
	assert_string_equal(process->alias, "agents-%{pid}");
	assert_true(process->key.max_budget < 0);
	assert_null(process->team_id);
	assert_null(process->team_alias);
	assert_string_equal(f->log, "");
	assert_int_equal(f->config->n_warnings, 0);
}

static void test_each_variable_sets_its_value_and_is_its_origin(void **state)
{
	struct fixture *f = *state;
	const struct profile *service, *process;

	test_upstream();
	test_env("LITELLM_BASE_URL", "http://127.0.0.1:4000/v1/");
	test_env("LITELLM_SERVICE_TEAM_ALIAS", "team");
	test_env("LITELLM_SERVICE_KEY_ALIAS", "name");
	test_env("LITELLM_SERVICE_MODELS", "a, b ,c");
	test_env("LITELLM_SERVICE_KEY_DURATION", "7d");
	test_env("LITELLM_MODELS", " gpt-5-mini ");
	test_env("LITELLM_KEY_DURATION", "1h");
	test_env("LITELLM_KEY_ALIAS", "x-${pid}-${process.pid}-$$");
	test_env("LITELLM_MAX_BUDGET", "2.5");
	test_env("LITELLM_RPM_LIMIT", "60");
	test_env("LITELLM_TPM_LIMIT", "1000");
	test_env("LITELLM_TEAM_ID", "T1");
	test_env("LITELLM_CLEANUP_OLD_KEYS", "false");
	test_env("LITELLM_KEY_VALIDATION_TIMEOUT_MS", "1500");
	test_env("LITELLM_KEY_API_RETRY_MAX", "5");
	test_env("LITELLM_KEY_API_RETRY_BASE_MS", "10");
	assert_int_equal(fixture_load(f, NULL), 0);
	assert_string_equal(f->config->upstream_url, "http://127.0.0.1:4000");
	assert_false(f->config->cleanup_old_keys);
	assert_int_equal(f->config->timing.info_timeout_ms, 1500);
	assert_int_equal(f->config->timing.retry_attempts, 5);
	assert_int_equal(f->config->timing.retry_base_ms, 10);
	service = test_profile(f, "service");
	assert_string_equal(service->team_alias, "team");
	assert_string_equal(service->alias, "name");
	assert_int_equal(service->n_models, 3);
	assert_string_equal(service->models[1], "b");
	assert_string_equal(service->duration, "7d");
	assert_null(service->team_id);
	assert_true(service->key.max_budget < 0);
	process = test_profile(f, "process");
	assert_int_equal(process->n_models, 1);
	assert_string_equal(process->models[0], "gpt-5-mini");
	assert_int_equal(process->duration_ms, 3600000);
	assert_string_equal(process->alias, "x-%{pid}-%{pid}-$$");
	assert_true(process->key.max_budget == 2.5);
	assert_int_equal(process->key.rpm_limit, 60);
	assert_int_equal(process->key.tpm_limit, 1000);
	assert_string_equal(process->team_id, "T1");
}

static void test_empty_counts_as_unset(void **state)
{
	struct fixture *f = *state;

	test_upstream();
	test_env("LITELLM_MODELS", "");
	test_env("LITELLM_MAX_BUDGET", "");
	test_env("LITELLM_KEY_DURATION", "");
	test_env("OPENAI_API_KEY", "");
	test_env("LITELLM_MASTER_KEY_FILE", "");
	assert_int_equal(fixture_load(f, NULL), 0);
	assert_string_equal(test_profile(f, "process")->models[0], "gpt-5");
	assert_string_equal(test_profile(f, "process")->duration, "30d");
	assert_int_equal(test_profile(f, "service")->mode, PROFILE_SHARED);
	test_env("LITELLM_BASE_URL", "");
	test_env("LITELLM_MASTER_KEY", "");
	assert_int_equal(fixture_load(f, NULL), CONFIG_E_INVALID);
	assert_logged(f,
		      "there is nothing to hand out: set LITELLM_BASE_URL and LITELLM_MASTER_KEY");
}

static void test_only_one_of_url_and_key_names_the_other(void **state)
{
	struct fixture *f = *state;

	test_env("LITELLM_BASE_URL", "http://127.0.0.1:4000");
	assert_int_equal(fixture_load(f, NULL), CONFIG_E_INVALID);
	assert_logged(f, "LITELLM_BASE_URL: there is a LiteLLM URL but no master key: set "
			 "LITELLM_MASTER_KEY or LITELLM_MASTER_KEY_FILE");
	assert_int_equal(fixture_count_lines(f->log), 1);
	test_env("LITELLM_BASE_URL", "");
	test_env("LITELLM_MASTER_KEY", "sk-test-master-key");
	assert_int_equal(fixture_load(f, NULL), CONFIG_E_INVALID);
	assert_logged(f, "LITELLM_MASTER_KEY: there is a master key but no LiteLLM URL: set "
			 "LITELLM_BASE_URL");
	assert_int_equal(fixture_count_lines(f->log), 1);
	assert_null(strstr(f->log, "sk-test"));
}

/* Each is named with its value, and all of them in one go. */
static void test_bad_values_name_their_variables(void **state)
{
	static const struct {
		const char *name, *value, *logged;
	} bad[] = {
		{ "LITELLM_MAX_BUDGET", "abc", "LITELLM_MAX_BUDGET: \"abc\" must be a number" },
		{ "LITELLM_RPM_LIMIT", "-1", "LITELLM_RPM_LIMIT: \"-1\" must be a whole number" },
		{ "LITELLM_TPM_LIMIT", "1e3", "LITELLM_TPM_LIMIT: \"1e3\" must be a whole" },
		{ "LITELLM_KEY_DURATION", "1h30m", "LITELLM_KEY_DURATION: \"1h30m\" must be a" },
		{ "LITELLM_SERVICE_KEY_DURATION", "30", "LITELLM_SERVICE_KEY_DURATION: \"30\" mu" },
		{ "LITELLM_MODELS", "a,,b", "LITELLM_MODELS: item 2 is empty" },
		{ "LITELLM_SERVICE_MODELS", " ", "LITELLM_SERVICE_MODELS: item 1 is empty" },
		{ "LITELLM_KEY_ALIAS", "a-%{bad}", "LITELLM_KEY_ALIAS: \"%{bad}\" is not known" },
		{ "LITELLM_SERVICE_KEY_ALIAS", "a-${b}", "LITELLM_SERVICE_KEY_ALIAS: \"${…}\"" },
		{ "LITELLM_CLEANUP_OLD_KEYS", "x", "LITELLM_CLEANUP_OLD_KEYS: \"x\" must be yes" },
		{ "LITELLM_KEY_VALIDATION_TIMEOUT_MS", "0", "LITELLM_KEY_VALIDATION_TIMEOUT_MS: " },
		{ "LITELLM_KEY_API_RETRY_MAX", "-2", "LITELLM_KEY_API_RETRY_MAX: \"-2\" must be" },
		{ "LITELLM_KEY_API_RETRY_BASE_MS", "1s", "LITELLM_KEY_API_RETRY_BASE_MS: \"1s\"" },
		{ "LITELLM_BASE_URL", "ftp://h", "LITELLM_BASE_URL: the URL does not begin with" },
		{ "OPENAI_BASE_URL", "localhost/v1", "OPENAI_BASE_URL: the URL does not begin " },
		{ "KEYBROKER_SOCKET", "a/b", "KEYBROKER_SOCKET: must be an absolute path" },
	};
	struct fixture *f = *state;

	test_upstream();
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		test_env(bad[i].name, bad[i].value);
	assert_int_equal(fixture_load(f, NULL), CONFIG_E_INVALID);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_logged(f, bad[i].logged);
	assert_int_equal(fixture_count_lines(f->log), ARRAY_SIZE(bad));
}

static void test_what_only_the_whole_tells_names_the_variable_too(void **state)
{
	struct fixture *f = *state;

	test_upstream();
	test_env("LITELLM_KEY_DURATION", "299s");
	test_env("LITELLM_SERVICE_KEY_ALIAS", "a-${pid}");
	test_env("OPENAI_BASE_URL", "https://API.openai.com/v1");
	assert_int_equal(fixture_load(f, NULL), CONFIG_E_INVALID);
	assert_logged(f,
		      "LITELLM_KEY_DURATION: profile \"process\": duration 299s is under the 5 mi");
	assert_logged(f, "LITELLM_SERVICE_KEY_ALIAS: profile \"service\" is shared, so its alias");
	assert_logged(f, "OPENAI_BASE_URL: a LiteLLM key cannot work at api.openai.com");
	assert_int_equal(fixture_count_lines(f->log), 3);
	test_env("LITELLM_KEY_DURATION", "5m");
	test_env("LITELLM_SERVICE_KEY_ALIAS", "a-%{host}");
	test_env("OPENAI_BASE_URL", "");
	assert_int_equal(fixture_load(f, NULL), 0);
}

static void test_plain_http_beyond_loopback_must_be_meant(void **state)
{
	struct fixture *f = *state;

	test_upstream();
	test_env("LITELLM_BASE_URL", "http://litellm:4000");
	assert_int_equal(fixture_load(f, NULL), CONFIG_E_INVALID);
	assert_logged(f, "LITELLM_BASE_URL: plain http to litellm would carry keys in clear");
	assert_logged(f, "http://litellm:4000 in compose");
	assert_logged(f, "KEYBROKER_INSECURE_HTTP=1");
	test_env("KEYBROKER_INSECURE_HTTP", "1");
	assert_int_equal(fixture_load(f, NULL), 0);
	assert_true(f->config->insecure_http);
}

static void test_another_base_url_is_handed_out_with_a_warning(void **state)
{
	struct fixture *f = *state;
	char *url;

	test_upstream();
	test_env("OPENAI_BASE_URL", "https://gateway.example.org/v1");
	assert_int_equal(fixture_load(f, NULL), 0);
	url = config_base_url(f->config, test_profile(f, "service"), NULL);
	assert_string_equal(url, "https://gateway.example.org/v1");
	free(url);
	assert_int_equal(f->config->n_warnings, 1);
	assert_string_equal(f->config->warnings[0],
			    "OPENAI_BASE_URL: the base URL handed out is on gateway.example.org, "
			    "but the keys are made by LiteLLM on 127.0.0.1");
	test_env("OPENAI_BASE_URL", "http://localhost:4000/v1");
	assert_int_equal(fixture_load(f, NULL), 0);
	assert_int_equal(f->config->n_warnings, 0);
}

static void test_a_provider_key_makes_service_static(void **state)
{
	struct fixture *f = *state;
	const struct profile *service;
	char *url;

	test_env("OPENAI_API_KEY", "sk-provider");
	test_env("OPENAI_BASE_URL", "https://api.openai.com/v1");
	test_env("LITELLM_SERVICE_MODELS", "ignored");
	assert_int_equal(fixture_load(f, NULL), 0);
	assert_int_equal(f->config->n_profiles, 1);
	service = test_profile(f, "service");
	assert_int_equal(service->mode, PROFILE_STATIC);
	assert_string_equal(secret_text(service->static_key), "sk-provider");
	assert_null(service->team_alias);
	assert_null(f->config->openai_base_url);
	url = config_base_url(f->config, service, NULL);
	assert_string_equal(url, "https://api.openai.com/v1");
	free(url);
	assert_int_equal(f->config->n_warnings, 1);
	assert_non_null(strstr(f->config->warnings[0], "nothing is provisioned"));
	/* with LiteLLM there, `process` goes on as ever */
	test_upstream();
	assert_int_equal(fixture_load(f, NULL), 0);
	assert_int_equal(f->config->n_profiles, 2);
	assert_int_equal(test_profile(f, "process")->mode, PROFILE_DEDICATED);
	assert_int_equal(test_profile(f, "service")->mode, PROFILE_STATIC);
}

static void test_the_lock_variable_has_no_effect_and_that_is_said(void **state)
{
	struct fixture *f = *state;

	test_upstream();
	test_env("LITELLM_TOKEN_LOCK_STALE_MS", "nonsense");
	assert_int_equal(fixture_load(f, NULL), 0);
	assert_int_equal(f->config->n_warnings, 1);
	assert_non_null(strstr(f->config->warnings[0], "LITELLM_TOKEN_LOCK_STALE_MS: accepted"));
}

static void test_only_the_own_uid_may_have_all_without_a_file(void **state)
{
	struct fixture *f = *state;
	const struct rule *r;

	test_upstream();
	assert_int_equal(fixture_load(f, NULL), 0);
	assert_true(f->config->n_rules >= 1);
	r = &f->config->rules[0];
	assert_true(r->has_uid);
	assert_false(r->has_gid);
	assert_int_equal(r->uid, geteuid());
	assert_string_equal(r->profiles[0], "*");
	for (size_t i = 1; i < f->config->n_rules; i++)
		assert_true(f->config->rules[i].has_gid);
}

static void test_the_key_file_goes_before_the_key(void **state)
{
	struct fixture *f = *state;
	char path[256];

	test_upstream();
	test_env("LITELLM_MASTER_KEY_FILE", fixture_write(f, "master", 0600, "sk-file\n", path));
	assert_int_equal(fixture_load(f, NULL), 0);
	assert_string_equal(secret_text(f->config->master_key), "sk-file");
	assert_int_equal(f->config->master_key_source, MASTER_KEY_FILE);
	assert_non_null(strstr(f->config->warnings[0], "LITELLM_MASTER_KEY is not used: the key "
						       "from LITELLM_MASTER_KEY_FILE"));
	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(fixture_load(f, NULL), CONFIG_E_INVALID);
	assert_logged(f, "LITELLM_MASTER_KEY_FILE: the master key is not taken");
	assert_logged(f, "has mode 0644 and is open to others: chmod 600 ");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(fixture_load(f, NULL), CONFIG_E_INVALID);
	assert_logged(f, "/master does not exist");
}

static void test_a_credential_goes_before_both(void **state)
{
	struct fixture *f = *state;
	char path[256];

	test_upstream();
	test_env("LITELLM_MASTER_KEY_FILE", fixture_write(f, "master", 0600, "sk-file", path));
	fixture_mkdir(f, "credentials");
	(void)fixture_write(f, "credentials/master_key", 0440, "sk-credential\n", path);
	*strrchr(path, '/') = '\0';
	test_env("CREDENTIALS_DIRECTORY", path);
	assert_int_equal(fixture_load(f, NULL), 0);
	assert_string_equal(secret_text(f->config->master_key), "sk-credential");
	assert_int_equal(f->config->master_key_source, MASTER_KEY_CREDENTIAL);
}

static void test_a_key_that_no_header_can_carry_is_refused(void **state)
{
	struct fixture *f = *state;

	test_upstream();
	test_env("LITELLM_MASTER_KEY", "sk-a\r\nX-Evil: 1");
	assert_int_equal(fixture_load(f, NULL), CONFIG_E_INVALID);
	assert_logged(f, "LITELLM_MASTER_KEY: must be printable");
	assert_null(strstr(f->log, "Evil"));
}

static void test_a_well_known_master_key_gets_a_loud_warning(void **state)
{
	struct fixture *f = *state;

	test_upstream();
	test_env("LITELLM_MASTER_KEY", "sk-1234");
	assert_int_equal(fixture_load(f, NULL), 0);
	assert_int_equal(f->config->n_warnings, 1);
	assert_non_null(strstr(f->config->warnings[0], "WELL-KNOWN"));
	assert_null(strstr(f->config->warnings[0], "1234"));
}

/* Of a child that was started with them, as /proc shows its block to root and to its own user. */
static void test_secrets_are_wiped_where_proc_shows_them(void **state)
{
	struct fixture *f = *state;
	char block[4096];
	ssize_t n;
	int fd;

	if (!getenv("KEYBROKER_TEST_CHILD")) {
		char *argv[] = { (char[]){ "test_config_env" }, NULL };
		char *envp[] = { (char[]){ "LITELLM_MASTER_KEY=sk-hide-me-1" },
				 (char[]){ "OPENAI_API_KEY=sk-hide-me-2" },
				 (char[]){ "LITELLM_SALT_KEY=sk-hide-me-3" },
				 (char[]){ "LITELLM_MODELS=stays" },
				 (char[]){ "KEYBROKER_TEST_CHILD=1" },
				 NULL };
		pid_t pid = fork();
		int status;

		assert_true(pid >= 0);
		if (pid == 0) {
			execve("/proc/self/exe", argv, envp);
			_exit(127);
		}
		assert_int_equal(TEMP_FAILURE_RETRY(waitpid(pid, &status, 0)), pid);
		assert_int_equal(status, 0);
		return;
	}
	assert_int_equal(config_env_new(&f->env), 0);
	config_env_scrub();
	fd = open("/proc/self/environ", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	n = read(fd, block, sizeof(block));
	assert_true(n > 0 && (size_t)n < sizeof(block));
	assert_int_equal(close(fd), 0);
	assert_non_null(memmem(block, (size_t)n, "LITELLM_MODELS=stays", 20));
	assert_null(memmem(block, (size_t)n, "hide-me", 7));
	assert_null(getenv("LITELLM_MASTER_KEY"));
	assert_null(getenv("OPENAI_API_KEY"));
	assert_string_equal(secret_text(config_env_master_key(f->env)), "sk-hide-me-1");
}

/* A reload has nothing but the copy. */
static void test_the_copy_outlives_the_environment(void **state)
{
	struct fixture *f = *state;
	struct config_request req = { 0 };

	test_upstream();
	test_env("LITELLM_MODELS", "m");
	assert_int_equal(fixture_load(f, NULL), 0);
	config_env_scrub();
	test_env("LITELLM_MODELS", "other");
	config_free(f->config);
	f->config = NULL;
	req.env = f->env;
	assert_int_equal(config_load(&req, &f->config), 0);
	assert_string_equal(secret_text(f->config->master_key), "sk-test-master-key");
	assert_string_equal(test_profile(f, "process")->models[0], "m");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

static int test_child_setup(void **state)
{
	static struct fixture f;

	*state = &f;
	return crypt_init();
}

static int test_child_teardown(void **state)
{
	config_env_free(((struct fixture *)*state)->env);
	return 0;
}

int main(void)
{
	const struct CMUnitTest child[] = {
		cmocka_unit_test_setup_teardown(test_secrets_are_wiped_where_proc_shows_them,
						test_child_setup, test_child_teardown),
	};
	const struct CMUnitTest tests[] = {
		TEST(test_two_variables_are_enough),
		TEST(test_each_variable_sets_its_value_and_is_its_origin),
		TEST(test_empty_counts_as_unset),
		TEST(test_only_one_of_url_and_key_names_the_other),
		TEST(test_bad_values_name_their_variables),
		TEST(test_what_only_the_whole_tells_names_the_variable_too),
		TEST(test_plain_http_beyond_loopback_must_be_meant),
		TEST(test_another_base_url_is_handed_out_with_a_warning),
		TEST(test_a_provider_key_makes_service_static),
		TEST(test_the_lock_variable_has_no_effect_and_that_is_said),
		TEST(test_only_the_own_uid_may_have_all_without_a_file),
		TEST(test_the_key_file_goes_before_the_key),
		TEST(test_a_credential_goes_before_both),
		TEST(test_a_key_that_no_header_can_carry_is_refused),
		TEST(test_a_well_known_master_key_gets_a_loud_warning),
		TEST(test_secrets_are_wiped_where_proc_shows_them),
		TEST(test_the_copy_outlives_the_environment),
	};

	if (getenv("KEYBROKER_TEST_CHILD"))
		return cmocka_run_group_tests(child, NULL, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
