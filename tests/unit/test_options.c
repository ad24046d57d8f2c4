/* The command line of keybrokerd. */
#include "test.h"

#include "config_fixture.h"
#include "daemon/options.h"

/* `line`: words after the program's name, by spaces; "" stands for an empty word. */
static int test_parse(struct fixture *f, const char *line, struct options *ret)
{
	static char words[256];
	char *argv[16], *save = NULL;
	int argc = 0, saved, r;

	(void)snprintf(words, sizeof(words), "keybrokerd %s", line);
	for (char *word = strtok_r(words, " ", &save); word; word = strtok_r(NULL, " ", &save))
		argv[argc++] = strcmp(word, "\"\"") == 0 ? word + 2 : word;
	argv[argc] = NULL;
	saved = fixture_capture_begin(f);
	r = options_parse(argc, argv, ret);
	fixture_capture_end(f, saved);
	return r;
}

static void test_nothing_said_is_nothing_set(void **state)
{
	struct options o, empty = { 0 };

	assert_int_equal(test_parse(*state, "", &o), 0);
	assert_memory_equal(&o, &empty, sizeof(o));
}

static void test_each_option(void **state)
{
	struct options o;

	assert_int_equal(test_parse(*state,
				    "--config a --instance b.1 --socket=c --admin-socket d "
				    "--state-dir e --log-level f --system --reset-state --check",
				    &o),
			 0);
	assert_string_equal(o.request.config_file, "a");
	assert_string_equal(o.request.instance, "b.1");
	assert_string_equal(o.request.socket, "c");
	assert_string_equal(o.request.admin_socket, "d");
	assert_string_equal(o.request.state_dir, "e");
	assert_string_equal(o.request.log_level, "f");
	assert_true(o.request.system_mode);
	assert_true(o.reset_state);
	assert_int_equal(o.action, OPTIONS_CHECK);
	assert_false(o.request.draft);
	assert_int_equal(test_parse(*state, "--init", &o), 0);
	assert_int_equal(o.action, OPTIONS_INIT);
	assert_true(o.request.draft);
	assert_int_equal(test_parse(*state, "--init-seal", &o), 0);
	assert_int_equal(o.action, OPTIONS_INIT_SEAL);
#ifdef KEYBROKER_TESTING
	assert_int_equal(test_parse(*state, "--timing t --list-fail-points", &o), 0);
	assert_string_equal(o.request.timing_file, "t");
	assert_int_equal(o.action, OPTIONS_LIST_FAIL_POINTS);
#else
	assert_int_equal(test_parse(*state, "--timing t", &o), OPTIONS_E_USAGE);
#endif
}

static void test_misuse_is_named_with_a_hint(void **state)
{
	static const struct {
		const char *line, *said;
	} bad[] = {
		{ "--nonsense", "--nonsense: there is no such option" },
		{ "--check --config", "--config needs an argument" },
		{ "-x", "-x: there is no such option" },
		{ "--check=1", "--check=1" },
		{ "file.conf", "file.conf: keybrokerd takes options only" },
		{ "--config \"\"", "config: the argument is empty" },
		{ "--check --init", "--check, --init and --init-seal exclude one another" },
		{ "--instance a/b", "--instance must be up to 63" },
		{ "--instance ..", "--instance must be up to 63" },
	};
	struct fixture *f = *state;
	struct options o;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(test_parse(f, bad[i].line, &o), OPTIONS_E_USAGE);
		assert_logged(f, bad[i].said);
		assert_logged(f, "Try: keybrokerd --help");
	}
}

static void test_help_and_version_end_well(void **state)
{
	struct options o;
	int saved = dup(STDOUT_FILENO);

	assert_true(saved >= 0);
	assert_non_null(freopen("/dev/null", "we", stdout));
	assert_int_equal(test_parse(*state, "--help", &o), OPTIONS_E_DONE);
	assert_int_equal(test_parse(*state, "--version", &o), OPTIONS_E_DONE);
	assert_int_equal(fflush(stdout), 0);
	assert_int_equal(dup2(saved, STDOUT_FILENO), STDOUT_FILENO);
	assert_int_equal(close(saved), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_nothing_said_is_nothing_set),
		TEST(test_each_option),
		TEST(test_misuse_is_named_with_a_hint),
		TEST(test_help_and_version_end_well),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
