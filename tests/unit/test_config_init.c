/* --init and --check: what they print, what they never print, and that the file means the same. */
#include "test.h"

#include "config_fixture.h"

static void test_env(const char *name, const char *value)
{
	assert_int_equal(setenv(name, value, 1), 0);
}

/* Takes origins and other comments away, and the spaces before them. */
static void test_strip_comments(char *text)
{
	char *to = text;

	while (*text) {
		size_t line = strcspn(text, "\n"), n = line;
		const char *comment = memmem(text, line, " # ", 3);

		if (comment)
			n = (size_t)(comment - text);
		while (n && text[n - 1] == ' ')
			n--;
		memmove(to, text, n);
		to += n;
		*to++ = '\n';
		text += line + (text[line] == '\n');
	}
	*to = '\0';
}

/* What --check prints, without the comments if so asked. To be freed. */
static char *test_show(const struct fixture *f, bool origins)
{
	char *text = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&text, &n);

	assert_non_null(out);
	config_show(out, f->config);
	assert_int_equal(fclose(out), 0);
	if (!origins)
		test_strip_comments(text);
	return text;
}

static void test_a_value_stands_with_its_origin(void **state)
{
	struct fixture *f = *state;
	char *shown;

	test_env("LITELLM_MASTER_KEY", "sk-hidden-master");
	test_env("LITELLM_MODELS", "m1,m2");
	test_env("OPENAI_API_KEY", "sk-hidden-provider");
	assert_int_equal(fixture_load(f, "upstream {\n url = \"http://127.0.0.1:4000\" }\n"
					 "rule \"r\" { uid = 12 profiles = { \"*\" } }\n"),
			 0);
	shown = test_show(f, true);
	assert_non_null(strstr(shown, "models = { \"m1\", \"m2\" }  "));
	assert_non_null(strstr(shown, " # LITELLM_MODELS\n"));
	assert_non_null(strstr(shown, "/keybroker.conf:2\n"));
	assert_non_null(strstr(shown, "    duration = \"30d\""));
	assert_non_null(strstr(shown, " # default\n"));
	assert_non_null(strstr(shown, "# master key: (set, from LITELLM_MASTER_KEY)\n"));
	assert_non_null(strstr(shown, "# the provider's key: (set, from OPENAI_API_KEY)\n"));
	assert_non_null(strstr(shown, "# warning: OPENAI_API_KEY: "));
	assert_non_null(strstr(shown, "    uid = 12 "));
	assert_null(strstr(shown, "hidden"));
	free(shown);
}

/* Loads with the environment, writes the file, takes the environment away, loads again. */
static void test_round_trip(struct fixture *f, const char *const *names)
{
	char path[256], key[256];
	struct config_request req = { 0 };
	char *before, *after;

	assert_int_equal(fixture_load(f, NULL), 0);
	before = test_show(f, false);
	assert_true(snprintf(path, sizeof(path), "%s/etc/new/keybroker.conf", f->dir) < 256);
	assert_int_equal(config_init_file(f->config, path), 0);
	for (; *names; names++)
		assert_int_equal(unsetenv(*names), 0);
	req.config_file = path;
	if (fixture_load_request(f, &req) != 0)
		fail_msg("%s", f->log);
	after = test_show(f, false);
	assert_string_equal(before, after);
	free(before);
	free(after);
	/* what is there stays */
	assert_int_equal(config_init_file(f->config, path), CONFIG_E_EXISTS);
	(void)fixture_write(f, "etc/new/keybroker.conf", 0600, "kept", key);
	assert_int_equal(config_init_file(f->config, path), CONFIG_E_EXISTS);
}

static void test_the_written_file_means_what_the_environment_did(void **state)
{
	static const char *const names[] = {
		"LITELLM_BASE_URL",
		"LITELLM_MODELS",
		"LITELLM_SERVICE_MODELS",
		"LITELLM_KEY_ALIAS",
		"LITELLM_MAX_BUDGET",
		"LITELLM_RPM_LIMIT",
		"LITELLM_KEY_DURATION",
		"LITELLM_CLEANUP_OLD_KEYS",
		"KEYBROKER_INSECURE_HTTP",
		"LITELLM_TEAM_ID",
		"KEYBROKER_SOCKET",
		"OPENAI_BASE_URL",
		"LITELLM_MASTER_KEY_FILE",
		"LITELLM_KEY_API_RETRY_MAX",
		NULL,
	};
	struct fixture *f = *state;
	char path[256];

	test_env("LITELLM_BASE_URL", "http://litellm:4000/v1");
	test_env("KEYBROKER_INSECURE_HTTP", "1");
	test_env("LITELLM_MASTER_KEY_FILE", fixture_write(f, "m\"k", 0600, "sk-hidden", path));
	test_env("LITELLM_MODELS", "a,\"b\",c\\d");
	test_env("LITELLM_SERVICE_MODELS", "s");
	test_env("LITELLM_KEY_ALIAS", "x-${pid}");
	test_env("LITELLM_MAX_BUDGET", "0.1");
	test_env("LITELLM_RPM_LIMIT", "3");
	test_env("LITELLM_KEY_DURATION", "1mo");
	test_env("LITELLM_CLEANUP_OLD_KEYS", "0");
	test_env("LITELLM_TEAM_ID", "T");
	test_env("KEYBROKER_SOCKET", "/tmp/x.sock");
	test_env("OPENAI_BASE_URL", "http://litellm:4000/openai/v1");
	test_env("LITELLM_KEY_API_RETRY_MAX", "7");
	test_round_trip(f, names);
}

static void test_the_defaults_alone_survive_too(void **state)
{
	static const char *const names[] = { "LITELLM_BASE_URL", NULL };
	struct fixture *f = *state;

	test_env("LITELLM_BASE_URL", "http://127.0.0.1:4000");
	test_env("LITELLM_MASTER_KEY", "sk-hidden-master");
	test_round_trip(f, names);
}

static void test_a_static_service_survives_too(void **state)
{
	static const char *const names[] = { "OPENAI_BASE_URL", NULL };
	struct fixture *f = *state;

	test_env("OPENAI_API_KEY", "sk-hidden-provider");
	test_env("OPENAI_BASE_URL", "https://provider.example.org/v1");
	test_round_trip(f, names);
}

static void test_no_key_gets_into_the_file(void **state)
{
	struct fixture *f = *state;
	char path[256], text[32768];
	struct stat st;
	FILE *file;

	test_env("LITELLM_BASE_URL", "http://127.0.0.1:4000");
	test_env("LITELLM_MASTER_KEY", "sk-hidden-master");
	test_env("OPENAI_API_KEY", "sk-hidden-provider");
	assert_int_equal(fixture_load(f, NULL), 0);
	assert_true(snprintf(path, sizeof(path), "%s/k.conf", f->dir) < 256);
	assert_int_equal(config_init_file(f->config, path), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 022, 0);
	file = fopen(path, "re");
	assert_non_null(file);
	text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	assert_int_equal(fclose(file), 0);
	assert_null(strstr(text, "hidden"));
	assert_non_null(strstr(text, "\t#master_key_file = \"/etc/keybroker/master.key\"\n"));
	assert_non_null(strstr(text, "\turl = \"http://127.0.0.1:4000\"\n"));
	assert_non_null(strstr(text, "#durability = power_loss\n"));
}

/* Who has nothing yet gets a file to fill in. */
static void test_a_draft_needs_no_upstream(void **state)
{
	struct fixture *f = *state;
	struct config_request req = { .draft = true };

	assert_int_equal(fixture_load_request(f, &req), 0);
	assert_int_equal(f->config->n_profiles, 2);
	assert_logged(f, "warning: environment: profile \"service\" needs LiteLLM");
	test_env("LITELLM_KEY_DURATION", "30");
	assert_int_equal(fixture_load_request(f, &req), CONFIG_E_INVALID);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_value_stands_with_its_origin),
		TEST(test_the_written_file_means_what_the_environment_did),
		TEST(test_the_defaults_alone_survive_too),
		TEST(test_a_static_service_survives_too),
		TEST(test_no_key_gets_into_the_file),
		TEST(test_a_draft_needs_no_upstream),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
