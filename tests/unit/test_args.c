/* The command line of the audit program. */
#include "test.h"

#include "audit/args.h"
#include "config_fixture.h"

#define HASH "00000000000000000000000000000000000000000000000000000000000000ab"

/* `line`: words after the program's name, by spaces; "" stands for an empty word. */
static int test_parse(struct fixture *f, const char *line, struct args *ret)
{
	char words[512], *argv[32], *save = NULL;
	int argc = 0, saved, r;

	(void)snprintf(words, sizeof(words), "audit %s", line);
	for (char *word = strtok_r(words, " ", &save); word; word = strtok_r(NULL, " ", &save))
		argv[argc++] = strcmp(word, "\"\"") == 0 ? word + 2 : word;
	argv[argc] = NULL;
	saved = fixture_capture_begin(f);
	r = args_parse(argc, argv, ret);
	fixture_capture_end(f, saved);
	return r;
}

static void test_each_option(void **state)
{
	struct args a;

	assert_int_equal(test_parse(*state,
				    "verify --system --head 5:" HASH " --head=7:" HASH
				    " --json --quiet",
				    &a),
			 0);
	assert_int_equal(a.command, ARGS_VERIFY);
	assert_true(a.system_mode && a.json && a.quiet);
	assert_int_equal(a.n_heads, 2);
	assert_int_equal(a.heads[1].sequence, 7);
	assert_int_equal(a.heads[1].hash[31], 0xab);
	assert_int_equal(test_parse(*state, "export --from 3 --to 4", &a), 0);
	assert_int_equal(a.command, ARGS_EXPORT);
	assert_int_equal(a.from, 3);
	assert_int_equal(a.to, 4);
	assert_int_equal(test_parse(*state, "key", &a), 0);
	assert_int_equal(a.command, ARGS_KEY);
	assert_null(a.out);
}

static void test_what_is_wrong_is_said(void **state)
{
	static const struct {
		const char *line, *said;
	} bad[] = {
		{ "", "there is no command" },
		{ "delete", "delete: there are verify" },
		{ "verify --nothing", "--nothing: there is no such option" },
		{ "verify more", "more is not expected" },
		{ "verify --head", "--head needs an argument" },
		{ "verify --head 5", "5 is not SEQUENCE:HASH" },
		{ "verify --state \"\"", "state: the argument is empty" },
		{ "verify --from 3", "verify does not take that option" },
		{ "key --json", "key does not take that option" },
		{ "export --from 0", "0 is not a sequence number" },
		{ "export --from x", "x is not a sequence number" },
		{ "export --from 5 --to 4", "--from is behind --to" },
		{ "verify --export a", "belong together" },
		{ "verify --key a", "belong together" },
		{ "verify --export a --key b --state c", "without any state" },
	};
	struct fixture *f = *state;
	struct args a;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(test_parse(f, bad[i].line, &a), ARGS_E_USAGE);
		assert_logged(f, bad[i].said);
	}
}

static void test_help_is_no_error(void **state)
{
	struct args a;
	int saved = dup(STDOUT_FILENO), null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	(void)fflush(stdout);
	assert_true(dup2(null, STDOUT_FILENO) >= 0);
	assert_int_equal(test_parse(*state, "--help", &a), ARGS_E_DONE);
	assert_int_equal(test_parse(*state, "export --help", &a), ARGS_E_DONE);
	(void)fflush(stdout);
	assert_true(dup2(saved, STDOUT_FILENO) >= 0);
	(void)close(saved);
	(void)close(null);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_each_option),
		TEST(test_what_is_wrong_is_said),
		TEST(test_help_is_no_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
