/* What the command line and its files may say: options, commands, URLs, the environment, imports.
 */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "cli/command.h"
#include "cli/exec.h"
#include "cli/import_file.h"

/* Parses up to 7 words behind the program's name; yields what options_parse() does. */
static int parse(struct options *o, unsigned allowed, bool permute, const char *const words[])
{
	static char copies[8][64];
	char *argv[9] = { NULL };
	int argc = 0;

	(void)snprintf(copies[argc], sizeof(copies[0]), "keybroker test");
	argv[argc] = copies[argc];
	argc++;
	for (size_t i = 0; words[i]; i++, argc++) {
		(void)snprintf(copies[argc], sizeof(copies[0]), "%s", words[i]);
		argv[argc] = copies[argc];
	}
	options_init(o);
	return options_parse(o, allowed, permute, argc, argv);
}

#define WORDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void test_options_are_taken(void **state)
{
	struct options o;

	(void)state;
	assert_int_equal(parse(&o, OPT_PROFILE | OPT_TTL, true,
			       WORDS("--profile=p", "--ttl", "2h", "x", "--json", "-q")),
			 6);
	assert_string_equal(o.profile, "p");
	assert_int_equal(o.ttl_ms, 7200000);
	assert_true(o.json && o.quiet && !o.help);
	assert_int_equal(o.min_valid_ms, -1);
	assert_null(o.socket);
	assert_int_equal(parse(&o, 0, true, WORDS("--timeout", "0.5")), 3);
	assert_int_equal(o.timeout_ms, 500);
	assert_int_equal(parse(&o, OPT_UID, true, WORDS("--uid", "0")), 3);
	assert_int_equal(o.uid, 0);
}

static void test_filters_are_taken(void **state)
{
	struct options o;

	(void)state;
	assert_int_equal(parse(&o, OPT_FILTER | OPT_UNTIL, true,
			       WORDS("--since=2026-09-21T14:13:20Z", "--until=1970-01-01T00:00:00Z",
				     "-e", "mint", "--unit=a.service", "--outcome=ok")),
			 7);
	assert_int_equal(o.since_ms, 1790000000000);
	assert_int_equal(o.until_ms, 0);
	assert_string_equal(o.event, "mint");
	assert_string_equal(o.unit, "a.service");
	assert_string_equal(o.outcome, "ok");
	assert_int_equal(o.uid, -1);
	assert_int_equal(parse(&o, OPT_FILTER, true, WORDS("--since", "1h")), 3);
	assert_in_range(o.since_ms, cli_now_ms() - 3660000, cli_now_ms() - 3600000);
	assert_int_equal(o.until_ms, -1);
	assert_int_equal(parse(&o, OPT_FILTER, true, WORDS("--since", "sometime")), -1);
	assert_int_equal(parse(&o, OPT_FILTER, true, WORDS("--until", "1h")), -1);
}

/* What stands behind the program of `exec` is that program's. */
static void test_options_of_the_program_are_left_alone(void **state)
{
	struct options o;

	(void)state;
	assert_int_equal(parse(&o, OPT_PROFILE, false, WORDS("-p", "a", "cmd", "--json", "-p")), 3);
	assert_false(o.json);
	assert_int_equal(parse(&o, OPT_PROFILE, false, WORDS("-p", "a", "--", "--json")), 4);
	assert_false(o.json);
	assert_string_equal(o.profile, "a");
}

static void test_wrong_options_are_refused(void **state)
{
	struct options o;

	(void)state;
	assert_int_equal(parse(&o, 0, true, WORDS("--bogus")), -1);
	assert_int_equal(parse(&o, OPT_TTL, true, WORDS("--profile", "x")), -1);
	assert_int_equal(parse(&o, OPT_TTL, true, WORDS("--ttl", "1h30m")), -1);
	assert_int_equal(parse(&o, OPT_TTL, true, WORDS("--ttl")), -1);
	assert_int_equal(parse(&o, OPT_UID, true, WORDS("--uid", "-1")), -1);
	assert_int_equal(parse(&o, OPT_UID, true, WORDS("--uid", "no-such-user")), -1);
	assert_int_equal(parse(&o, OPT_UID, true, WORDS("--uid", "99999999999999999999")), -1);
	assert_int_equal(parse(&o, 0, true, WORDS("--timeout", "0")), -1);
	assert_int_equal(parse(&o, 0, true, WORDS("--timeout", "nan")), -1);
	assert_int_equal(parse(&o, 0, true, WORDS("--json=yes")), -1);
}

static void test_commands_are_found_by_whole_words(void **state)
{
	static char audit[] = "audit", read_word[] = "read", stat_word[] = "stat", get[] = "get";
	int words = 0;

	(void)state;
	const struct command *c = command_find(2, (char *const[]){ audit, read_word }, &words);
	assert_non_null(c);
	assert_string_equal(c->name, "audit read");
	assert_int_equal(words, 2);
	assert_null(command_find(1, (char *const[]){ audit }, &words));
	assert_null(command_find(2, (char *const[]){ audit, get }, &words));
	assert_null(command_find(1, (char *const[]){ stat_word }, &words));
	assert_null(command_find(0, (char *const[]){ NULL }, &words));
	assert_non_null(command_find(1, (char *const[]){ get }, &words));
	assert_int_equal(words, 1);
}

static void test_servers_of_urls(void **state)
{
	static const struct {
		const char *url, *host;
		unsigned port;
	} rows[] = {
		{ "http://Example.COM./v1", "example.com", 80 },
		{ "HTTPS://h", "h", 443 },
		{ "http://user:p@ss@h:81?x", "h", 81 },
		{ "http://[::1]:4000/v1", "::1", 4000 },
		{ "https://[::1]#f", "::1", 443 },
		{ "http://h:/", "h", 80 },
	};
	static const char *const bad[] = {
		"",	      "h:4000",		"ftp://h",	 "http://",	 "http:///v1",
		"http://h:x", "http://h:70000", "http://[::1]x", "http://a b/v1"
	};
	struct url_server s;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_true(url_server(rows[i].url, &s));
		assert_string_equal(s.host, rows[i].host);
		assert_int_equal(s.port, rows[i].port);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(url_server(bad[i], &s));
	assert_true(url_same_server("http://h/v1", "http://H:80"));
	assert_false(url_same_server("http://h/v1", "https://h/v1"));
	assert_false(url_same_server("nonsense", "nonsense"));
}

static void test_whose_base_url_counts(void **state)
{
	static const char local[] = "http://127.0.0.1:4000/v1", clear[] = "http://litellm:4000/v1",
			  tls[] = "https://litellm/v1";
	static const struct {
		const char *own, *mode;
		enum exec_base base;
		const char *brokers;
	} rows[] = {
		{ "garbage", "shared", EXEC_BASE_NO_URL, local },
		{ "ftp://proxy.example", "static", EXEC_BASE_NO_URL, local },
		{ "http://proxy.example/v1", "shared", EXEC_BASE_CLEAR, local },
		{ "http://proxy.example/v1", "static", EXEC_BASE_CLEAR, local },
		{ "http://127.0.0.1.example/v1", "shared", EXEC_BASE_CLEAR, local },
		{ "http://[::1]:81/v1", "shared", EXEC_BASE_OTHER, local },
		{ "http://localhost:4000/v1", "shared", EXEC_BASE_OTHER, local },
		{ "http://litellm:4000/v1", "shared", EXEC_BASE_SAME, clear },
		{ "http://litellm:4001/v1", "shared", EXEC_BASE_OTHER, clear },
		{ "http://litellm:443/v1", "shared", EXEC_BASE_CLEAR, tls },
		{ NULL, "shared", EXEC_BASE_BROKERS, local },
		{ "", "shared", EXEC_BASE_BROKERS, local },
		{ "http://127.0.0.1:4000/", "shared", EXEC_BASE_SAME, local },
		{ "http://127.0.0.1:4001/v1", "shared", EXEC_BASE_OTHER, local },
		{ "https://proxy.example/v1", "dedicated", EXEC_BASE_OTHER, local },
		{ "https://api.openai.com/v1", "shared", EXEC_BASE_OPENAI, local },
		{ "https://EU.api.openai.com./v1", "dedicated", EXEC_BASE_OPENAI, local },
		{ "https://notapi.openai.com/v1", "shared", EXEC_BASE_OTHER, local },
		{ "https://api.openai.com/v1", "static", EXEC_BASE_OTHER, local },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(exec_judge_base(rows[i].own, rows[i].brokers, rows[i].mode),
				 rows[i].base);
}

/* A message about a URL must not carry the password in it. */
static void test_servers_are_named_without_passwords(void **state)
{
	char name[URL_HOST_SIZE + 16];

	(void)state;
	exec_name_server("https://user:hunter2@h.example:81/v1", name);
	assert_string_equal(name, "h.example:81");
	exec_name_server("hunter2", name);
	assert_null(strstr(name, "hunter2"));
}

static void test_master_keys_are_taken_out(void **state)
{
	char names[128];

	(void)state;
	(void)unsetenv("LITELLM_MASTER_KEY_FILE");
	(void)setenv("LITELLM_MASTER_KEY", "sk-m", 1);
	(void)setenv("LITELLM_SALT_KEY", "", 1);
	exec_take_out_master(names, sizeof(names));
	assert_string_equal(names, "LITELLM_MASTER_KEY, LITELLM_SALT_KEY");
	assert_null(getenv("LITELLM_MASTER_KEY"));
	assert_null(getenv("LITELLM_SALT_KEY"));
	exec_take_out_master(names, sizeof(names));
	assert_string_equal(names, "");
}

static void test_import_files(void **state)
{
	static const char good[] = "{\"token\": \"sk-t\", \"alias\": \"a\", \"team_id\": null, "
				   "\"created_at\": 17, \"more\": []}";
	struct import_file f = { .doc = NULL };
	char why[128];

	(void)state;
	assert_int_equal(import_file_parse(&f, good, strlen(good), why, sizeof(why)), CLI_OK);
	assert_string_equal(f.token, "sk-t");
	assert_string_equal(f.alias, "a");
	assert_null(f.team_id);
	assert_null(f.created_at);
	assert_int_equal(f.created_at_ms, 17);
	import_file_deinit(&f);
}

static void test_wrong_import_files_name_the_field_and_not_the_key(void **state)
{
	static const struct {
		const char *text, *why;
	} rows[] = {
		{ "{\"token\":\"sk-hidden\"", "it is not JSON" },
		{ "[\"sk-hidden\"]", "it is not a JSON object" },
		{ "\"sk-hidden\"", "it is not a JSON object" },
		{ "{\"alias\":\"a\"}", "the field \"token\" is missing" },
		{ "{\"token\":\"sk-hidden\"}", "the field \"alias\" is missing" },
		{ "{\"token\":\"\",\"alias\":\"a\"}", "the field \"token\" is empty" },
		{ "{\"token\":\"sk-hidden\",\"alias\":5}", "the field \"alias\" must be text" },
		{ "{\"token\":[\"sk-hidden\"],\"alias\":\"a\"}",
		  "the field \"token\" must be text" },
		{ "{\"token\":\"sk-hidden\",\"alias\":\"a\",\"team_id\":{}}",
		  "the field \"team_id\" must be text" },
		{ "{\"token\":\"sk-hidden\",\"alias\":\"a\",\"created_at\":[]}",
		  "the field \"created_at\" must be text" },
		{ "", "it is not JSON" },
	};
	struct import_file f = { .doc = NULL };
	char why[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(
			import_file_parse(&f, rows[i].text, strlen(rows[i].text), why, sizeof(why)),
			CLI_DATA);
		assert_string_equal(why, rows[i].why);
		assert_null(f.doc);
	}
}

static void test_exit_codes(void **state)
{
	(void)state;
	assert_int_equal(cli_exit_code(KEYBROKER_OK), 0);
	assert_int_equal(cli_exit_code(KEYBROKER_INVALID_REQUEST), 64);
	assert_int_equal(cli_exit_code(KEYBROKER_UNREACHABLE), 69);
	assert_int_equal(cli_exit_code(KEYBROKER_GARBAGE), 70);
	assert_int_equal(cli_exit_code(KEYBROKER_NOT_LEADER), 75);
	assert_int_equal(cli_exit_code(KEYBROKER_LIMIT_EXCEEDED), 75);
	assert_int_equal(cli_exit_code(KEYBROKER_DENIED), 77);
	assert_int_equal(cli_exit_code(KEYBROKER_UNKNOWN_PROFILE), 78);
	assert_int_equal(cli_exit_code(KEYBROKER_UPSTREAM_REFUSED), 78);
	assert_int_equal(cli_exit_code((enum keybroker_code)999), 70);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_options_are_taken),
		cmocka_unit_test(test_filters_are_taken),
		cmocka_unit_test(test_options_of_the_program_are_left_alone),
		cmocka_unit_test(test_wrong_options_are_refused),
		cmocka_unit_test(test_commands_are_found_by_whole_words),
		cmocka_unit_test(test_servers_of_urls),
		cmocka_unit_test(test_whose_base_url_counts),
		cmocka_unit_test(test_servers_are_named_without_passwords),
		cmocka_unit_test(test_master_keys_are_taken_out),
		cmocka_unit_test(test_import_files),
		cmocka_unit_test(test_wrong_import_files_name_the_field_and_not_the_key),
		cmocka_unit_test(test_exit_codes),
	};

	json_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
