/* keybroker.conf: its syntax and every way to get it wrong, each with file and line. */
#include "test.h"

#include "config_fixture.h"

#define TEST_UPSTREAM "upstream { url = \"http://127.0.0.1:4000\" }\n"

static int test_setup(void **state)
{
	int r = fixture_setup(state);

	assert_int_equal(setenv("LITELLM_MASTER_KEY", "sk-test-master-key", 1), 0);
	return r;
}

static void test_a_whole_file(void **state)
{
	struct fixture *f = *state;
	const struct profile *p;
	const struct rule *r;

	assert_int_equal(
		fixture_load(
			f,
			"# a comment with \"quotes\" and ${braces}\n"
			"socket = \"/run/k/k.sock\" // behind a value\n"
			"/* over\n"
			"   lines */ durability = crash\n"
			"log_level = debug\n"
			"upstream {\n"
			"	url = http://127.0.0.1:4000/v1\n"
			"	timeout = '20s'\n"
			"}\n"
			"lease { ttl = \"1h\" grace = 10m }\n"
			"limits { connections = 10 leases = 20 }\n"
			"profile \"agents\" {\n"
			"	mode = shared\n"
			"	models = { \"a\", 'b#c', \"d//e\" }\n"
			"	alias = \"agents-%{host}\"\n"
			"	team_alias = \"team \\\"A\\\"\"\n"
			"	duration = \"30d\"\n"
			"	rotate_every = \"7d\"\n"
			"	key { max_budget = 5.0 rpm_limit = 60 budget_duration = \"30d\" }\n"
			"}\n"
			"rule r { uid = 12 profiles = { agents } ttl_cap = \"1h\"\r\n"
			"         max_leases = 3 mints_per_minute = 0 }\n"),
		0);
	assert_string_equal(f->config->socket_path, "/run/k/k.sock");
	assert_string_equal(f->config->admin_socket_path, "/run/keybroker-admin/admin.sock");
	assert_int_equal(f->config->durability, DURABILITY_CRASH);
	assert_int_equal(f->config->log_level, LOG_LEVEL_DEBUG);
	assert_string_equal(f->config->upstream_url, "http://127.0.0.1:4000");
	assert_int_equal(f->config->timing.upstream_timeout_ms, 20000);
	assert_int_equal(f->config->timing.ttl_default_ms, 3600000);
	assert_int_equal(f->config->timing.grace_ms, 600000);
	assert_int_equal(f->config->max_connections, 10);
	assert_int_equal(f->config->max_leases, 20);
	assert_int_equal(f->config->n_profiles, 1);
	p = config_profile(f->config, "agents");
	assert_int_equal(p->n_models, 3);
	assert_string_equal(p->models[1], "b#c");
	assert_string_equal(p->models[2], "d//e");
	assert_string_equal(p->team_alias, "team \"A\"");
	assert_int_equal(p->duration_ms, INT64_C(2592000000));
	assert_int_equal(p->rotate_every_ms, INT64_C(604800000));
	assert_true(p->key.max_budget == 5.0);
	assert_int_equal(p->key.rpm_limit, 60);
	assert_int_equal(p->key.tpm_limit, -1);
	assert_string_equal(p->key.budget_duration, "30d");
	assert_non_null(strstr(p->origin.text, "/keybroker.conf:12"));
	assert_int_equal(f->config->n_rules, 1);
	r = &f->config->rules[0];
	assert_true(r->has_uid && !r->has_gid);
	assert_int_equal(r->uid, 12);
	assert_int_equal(r->ttl_cap_ms, 3600000);
	assert_int_equal(r->max_leases, 3);
	assert_int_equal(r->mints_per_minute, 0);
	assert_non_null(strstr(r->origin.text, "/keybroker.conf:21"));
}

/* One file, one fault, and exactly one line about it. */
static void test_each_fault_is_named_with_its_line(void **state)
{
	static const struct {
		const char *text, *logged;
	} bad[] = {
		{ "\nsockt = \"/a\"\n", "keybroker.conf:2: unknown key sockt" },
		{ "upstream {\n\n socket = \"/a\"\n}",
		  ":3: unknown key socket here: it belongs out" },
		{ "url = \"http://h\"\n",
		  ":1: unknown key url here: it belongs into upstream { }" },
		{ "upstream { master_key = \"sk-1\" }",
		  ":1: unknown key master_key: a secret never" },
		{ "nosuch \"x\" { a = 1 }\n", ":1: unknown key nosuch" },
		{ "nosuch = { a, b }\n", ":1: unknown key nosuch" },
		{ "# 1\n// 2\n/* 3\n4 */\nnosuch = 1\n", ":5: unknown key nosuch" },
		{ "\"\" = 1\n", ":1: there is no key before =" },
		{ "\"profile|mode\" = 1\n", ":1: " },
		{ "limits { leases = -1 }", ":1: leases: \"-1\" must be a whole number from 1" },
		{ "limits {\n leases = abc }", ":2: leases: \"abc\" must be a whole number" },
		{ "limits { leases = 1\n leases = 2 }", ":2: leases is already set on line 1" },
		{ "durability = sometimes\n",
		  ":1: durability: \"sometimes\" must be one of power" },
		{ "socket = \"a/b\"\n", ":1: socket: must be an absolute path" },
		{ "upstream { url = \"ftp://h\" }", ":1: url: the URL does not begin with http" },
		{ "upstream { url = \"http://me:pw@h\" }", ":1: url: the URL has a user or passw" },
		{ "lease { ttl = \"1h30m\" }\n", ":1: ttl: \"1h30m\" must be a duration" },
		{ "lease { ttl = 500ms }\n", ":1: ttl: \"500ms\" must be a duration" },
		{ "lease { ttl = 30 }\n", ":1: ttl: \"30\" must be a duration" },
		{ "profile \"a\" { mode = other }",
		  ":1: mode: \"other\" must be one of shared, ded" },
		{ "profile \"a\" {\n mode = shared\n models = { } }",
		  ":3: models: this list is empty" },
		{ "profile \"a\" {\n mode = shared\n models = { \"x\", \"\" } }",
		  ":3: models: item 2 is empty" },
		{ "profile \"a\" { alias = \"%{nope}\" }", ":1: alias: \"%{nope}\" is not known" },
		{ "profile \"a b\" { mode = shared }", ":1: the name \"a b\" must be 1 to 63 of" },
		{ "profile \"a\" { }\n\nprofile \"a\" { }",
		  ":3: \"a\" is already defined on line 1 (profile)" },
		{ "rule \"r\" { }\nprofile \"r\" { }\nrule \"r\" { }",
		  ":3: \"r\" is already defined on line 2 (profile) or line 1 (rule)" },
		{ "rule \"r\" { uid = 1 }\nrule \"r\" { uid = 2 }",
		  ":2: \"r\" is already defined o" },
		{ "profile { mode = shared }", ":1: section profile needs a name" },
		{ "profile \"a\" mode = shared", ":1: section profile must go on with {" },
		{ "rule \"r\" {\n user = \"no-such-user-here\" }",
		  ":2: user \"no-such-user-here\" is not known here" },
		{ "rule \"r\" {\n\n group = \"no-such-group\" }",
		  ":3: group \"no-such-group\" is not known here" },
		{ "rule \"r\" { uid = root }", ":1: uid: \"root\" must be an id" },
		{ "rule \"r\" { uid = 4294967295 }", ":1: uid: \"4294967295\" must be an id" },
		{ "rule \"r\" { user = root\n uid = 0 }",
		  ":1: rule \"r\" names both user and uid" },
		{ "rule \"r\" { profiles = {*} }", ":1: * and + must stand in quotes" },
		{ "socket = \"/a-${USER}\"\n", ":1: \"${\" is not filled in here: write %{pid}" },
		{ "\nsocket = ${HOME}\n", ":2: \"${\" is not filled in here: write %{pid}" },
		{ "socket = '${HOME}'\n", ":1: \"${\" is not filled in here: write %{pid}" },
		{ "socket = \"/a\nlog_level = info\n", ":1: this string does not end on its line" },
		{ "\n\nsocket = '/a", ":3: this string does not end on its line" },
		{ "socket = \"/\\777\"\n", ":1: of the escapes there are only" },
		{ "socket = \"/\\x41\"\n", ":1: of the escapes there are only" },
		{ "socket = \"/a\001\"\n", ":1: there is a control character in this string" },
		{ "\001 = 1\n", ":1: there is a control character here" },
		{ "a = 1 /* no end\n\n", ":1: this comment has no */" },
		{ "upstream {\n url = \"http://h\"\n", ":1: this { has no }" },
		{ "profile \"a\" {\n mode = shared\n key {\n }\n", ":1: this { has no }" },
		{ "a {{{{{{{{{{{{{{{{{{", ":1: this { is nested too deep" },
		{ "socket =\n", ":2: the file ends too soon" },
		{ "}\n", ":1: this } closes nothing" },
		{ "socket \"/a\"\n", ":1: after socket there must be = and a value" },
		{ "socket += \"/a\"\n", ":1: socket is no list: write = instead of +=" },
		{ "socket = { \"/a\" }\n", ":1: '{' is not expected here" },
		{ "include(\"x\")\n", ":1: unknown key include" },
		{ "__unknown = 1\n", ":1: unknown key __unknown" },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(fixture_load(f, bad[i].text), CONFIG_E_INVALID);
		assert_logged(f, bad[i].logged);
		if (fixture_count_lines(f->log) != 1)
			fail_msg("%s: more than one line:\n%s", bad[i].text, f->log);
	}
}

/* What shows only once all has been read. */
static void test_faults_of_the_whole_are_named_with_their_line(void **state)
{
	static const struct {
		const char *text, *logged;
	} bad[] = {
		{ "profile \"a\" {\n mode = shared\n models = {m}\n duration = \"299s\" }\n",
		  "keybroker.conf:5: profile \"a\": duration 299s is under the 5 minutes" },
		{ "profile \"a\" {\n mode = shared\n models = {m}\n alias = \"x-%{uid}\" }\n",
		  ":5: profile \"a\" is shared, so its alias must be the same for all" },
		{ "\nprofile \"a\" { models = {m} }\n", ":3: profile \"a\" needs a mode" },
		{ "profile \"a\" { mode = dedicated }\n", ":2: profile \"a\" needs models" },
		{ "profile \"a\" { mode = static }\n", ":2: profile \"a\" is static and needs a" },
		{ "profile \"a\" { mode = dedicated models = {m} rotate_every = \"1d\" }\n",
		  ":2: profile \"a\": rotate_every is for shared profiles only" },
		{ "profile \"a\" { mode = shared models = {m} rotate_every = \"1m\" }\n",
		  ":2: profile \"a\": rotate_every must be 5 minutes or more" },
		{ "profile \"a\" { mode = shared models = {m}\n key_file = \"/k\" }\n",
		  ":3: profile \"a\": key_file is for static profiles only" },
		{ "profile \"a\" { mode = shared models = {m}\n base_url = \"http://h/v1\" }\n",
		  ":3: plain http to h would carry keys in clear" },
		{ "profile \"a\" { mode = shared models = {m}\n"
		  " base_url = \"https://api.openai.com/v1\" }\n",
		  ":3: a LiteLLM key cannot work at api.openai.com" },
		{ "rule \"r\" { uid = 1\n profiles = { \"service\", \"nosuch\" } }\n",
		  ":3: rule \"r\" names the unknown profile \"nosuch\"" },
		{ "rule \"r\" { profiles = { \"*\" } }\n",
		  ":2: rule \"r\" must name a user, uid, group or unit" },
		{ "rule \"r\" { exe = \"/bin/sh\" user_unit = \"a.service\" profiles = { \"*\" } }\n",
		  ":2: rule \"r\" must name a user, uid, group or unit: any user can" },
		{ "rule \"r\" { uid = 1\n unit = \"web\" profiles = { \"*\" } }\n",
		  ":3: rule \"r\": \"web\" is no unit that processes run in" },
		{ "rule \"r\" { uid = 1\n user_unit = \"a.slice\" profiles = { \"*\" } }\n",
		  ":3: rule \"r\": \"a.slice\" is no unit" },
		{ "rule \"r\" { uid = 1 exe = \"/bin/sh\"\n foreign_pid = yes profiles = { \"*\" } }\n",
		  ":3: rule \"r\": of a process in a foreign pid namespace only uid and group" },
		{ "rule \"r\" { uid = 1 profiles = { \"*\" } }\n"
		  "rule \"s\" { uid = 1 group = 0 profiles = { \"*\" } }\n",
		  ":3: rule \"s\" is never reached: rule \"r\" at " },
		{ "rule \"r\" { unit = \"web-*\" profiles = { \"s*\" } }\n"
		  "rule \"s\" { uid = 7 unit = \"web-1.service\"\n profiles = { \"service\" } }\n",
		  ":3: rule \"s\" is never reached" },
		{ "rule \"r\" { unit = \"web-*.service\" profiles = { \"*\" } }\n"
		  "rule \"s\" { unit = \"web-api-*-?.service\" profiles = { \"*\" } }\n",
		  ":3: rule \"s\" is never reached" },
		{ "rule \"r\" { uid = 1 profiles = { \"service\" } }\n"
		  "rule \"p\" { uid = 1 profiles = { \"process\" } }\n"
		  "rule \"s\" { uid = 1 profiles = { \"*\" } }\n",
		  ":4: rule \"s\" is never reached: rule \"" },
		{ "rule \"r\" { uid = 1 profiles = { \"*\" } }\n"
		  "listen \"r\" { path = \"/s\" profiles = { \"*\" } }\n",
		  ":3: listen \"r\": the rule at " },
		{ "listen \"l\" { profiles = { \"*\" } }\n", ":2: listen \"l\" needs a path" },
		{ "listen \"l\" { path = \"/s\" }\n", ":2: listen \"l\" needs profiles" },
		{ "listen \"l\" { path = \"/s\"\n profiles = { \"no\" } }\n",
		  ":3: listen \"l\" names the unknown profile \"no\"" },
		{ "listen \"l\" { path = \"/s\" profiles = { \"*\" } }\n"
		  "listen \"m\" { profiles = { \"*\" }\n path = \"/s\" }\n",
		  ":4: listen \"m\": l has this path already" },
		{ "socket = \"/a/s\"\nlisten \"l\" { path = \"/a/s\" profiles = { \"*\" } }\n",
		  ":3: listen \"l\": the broker's own socket has this path" },
		{ "rule \"r\" { uid = 1 }\n", ":2: rule \"r\" needs profiles" },
		{ "lease { ttl = \"2h\"\n ttl_max = \"1h\" }\n",
		  ":2: lease { ttl } is longer than" },
		{ "lease {\n ttl_max = \"10m\" }\n", ":3: lease { ttl } is longer than" },
		{ "socket = \"/a/b\"\nadmin_socket = \"/a/b\"\n",
		  ":3: socket and admin_socket must" },
		{ "socket = \"/1234567890123456789012345678901234567890123456789012345678901234567890"
		  "1234567890123456789012345678901234567\"\nadmin_socket = \"/a\"\n",
		  ":2: the socket path /1234567890" },
	};
	struct fixture *f = *state;
	char text[1024];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_true(snprintf(text, sizeof(text), TEST_UPSTREAM "%s", bad[i].text) < 1024);
		assert_int_equal(fixture_load(f, text), CONFIG_E_INVALID);
		assert_logged(f, bad[i].logged);
		if (fixture_count_lines(f->log) != 1)
			fail_msg("%s: more than one line:\n%s", bad[i].text, f->log);
	}
}

static void test_globs_of_which_neither_holds_the_other(void **state)
{
	static const char *const units[][2] = {
		{ "web-api-*.service", "web-*.service" }, { "web-*.service", "web-*" },
		{ "web-?.service", "web-*.service" },	  { "web-?.service", "web-??.service" },
		{ "web-[!a].service", "web-*.service" },  { "web-[*].service", "web-*.service" },
		{ "*b].service", "web-[ab].service" },	  { "*ab*.service", "x[ab]y.service" },
		{ "web-*-a.service", "web-?.service" },
	};
	struct fixture *f = *state;
	char text[512];

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		(void)snprintf(text, sizeof(text),
			       TEST_UPSTREAM "rule \"r\" { unit = \"%s\" profiles = { \"*\" } }\n"
					     "rule \"s\" { unit = \"%s\" profiles = { \"*\" } }\n",
			       units[i][0], units[i][1]);
		if (fixture_load(f, text) != 0)
			fail_msg("%s, %s:\n%s", units[i][0], units[i][1], f->log);
	}
}

static void test_all_faults_are_reported_at_once(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(fixture_load(f, "nosuch = 1\n"
					 "log_level = loud\n"
					 "profile \"a\" {\n"
					 "	other = 2\n"
					 "	duration = \"30\"\n"
					 "}\n"
					 "limits { leases = 0 }\n"),
			 CONFIG_E_INVALID);
	assert_logged(f, ":1: unknown key nosuch");
	assert_logged(f, ":2: log_level: \"loud\" must be");
	assert_logged(f, ":4: unknown key other");
	assert_logged(f, ":5: duration: \"30\" must be");
	assert_logged(f, ":7: leases: \"0\" must be");
	assert_int_equal(fixture_count_lines(f->log), 5);
}

/* libConfuse keeps the state of its lexer from one parse to the next. */
static void test_a_broken_file_does_not_spoil_the_next_load(void **state)
{
	static const char *const broken[] = { "socket = \"/a", "socket = '/a", "socket = \"\\9\"",
					      "upstream { /*", "upstream {",   "x \"y" };
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
		assert_int_equal(fixture_load(f, broken[i]), CONFIG_E_INVALID);
		assert_int_equal(fixture_load(f, TEST_UPSTREAM "socket = \"/b\"\n"), 0);
		assert_string_equal(f->config->socket_path, "/b");
	}
}

static void test_environment_goes_before_file_and_flag_before_both(void **state)
{
	struct fixture *f = *state;
	char path[256];
	struct config_request req = { .socket = "/flag" };

	assert_int_equal(setenv("LITELLM_SERVICE_MODELS", "env", 1), 0);
	assert_int_equal(setenv("KEYBROKER_SOCKET", "unix:///env", 1), 0);
	assert_int_equal(setenv("KEYBROKER_ADMIN_SOCKET", "/env-admin", 1), 0);
	assert_int_equal(fixture_load(f, TEST_UPSTREAM "socket = \"/file\"\n"
						       "profile \"service\" {\n"
						       "	models = { \"file\" }\n"
						       "	alias = \"from-file\"\n"
						       "}\n"),
			 0);
	assert_int_equal(f->config->n_profiles, 1);
	assert_string_equal(f->config->profiles[0].models[0], "env");
	assert_string_equal(f->config->profiles[0].alias, "from-file");
	assert_string_equal(f->config->profiles[0].team_alias, "agents-service");
	assert_string_equal(f->config->socket_path, "/env");
	assert_string_equal(f->config->admin_socket_path, "/env-admin");
	req.config_file = fixture_write(f, "keybroker.conf", 0600, TEST_UPSTREAM, path);
	assert_int_equal(fixture_load_request(f, &req), 0);
	assert_string_equal(f->config->socket_path, "/flag");
	/* as the command line client looks for it */
	assert_string_equal(f->config->admin_socket_path, "/keybroker-admin/admin.sock");
}

/* Without profiles of its own a file leaves both built-in ones; with some, those that are meant. */
static void test_which_built_in_profiles_a_file_leaves(void **state)
{
	struct fixture *f = *state;
	static const char own[] = TEST_UPSTREAM "profile \"own\" { mode = shared models = {m} }\n";

	assert_int_equal(fixture_load(f, TEST_UPSTREAM), 0);
	assert_int_equal(f->config->n_profiles, 2);
	assert_int_equal(f->config->n_rules, 0);
	assert_int_equal(f->config->n_warnings, 1);
	assert_non_null(strstr(f->config->warnings[0], "there is no rule"));
	assert_int_equal(fixture_load(f, own), 0);
	assert_int_equal(f->config->n_profiles, 1);
	assert_int_equal(setenv("LITELLM_MAX_BUDGET", "3", 1), 0);
	assert_int_equal(fixture_load(f, own), 0);
	assert_int_equal(f->config->n_profiles, 2);
	assert_true(config_profile(f->config, "process")->key.max_budget == 3);
}

static void test_conf_d_is_read_after_in_order(void **state)
{
	struct fixture *f = *state;
	char path[256];

	fixture_mkdir(f, "conf.d");
	(void)fixture_write(f, "conf.d/20-b.conf", 0600,
			    "socket = \"/twenty\"\nprofile \"b\" { mode = shared models = {m} }\n",
			    path);
	(void)fixture_write(f, "conf.d/10-a.conf", 0600,
			    "socket = \"/ten\" state_dir = \"/ten\"\nrule \"r\" { uid = 1 profiles "
			    "= {\"b\"} }\n",
			    path);
	(void)fixture_write(f, "conf.d/30.conf.bak", 0600, "nonsense", path);
	(void)fixture_write(f, "conf.d/.hidden.conf", 0600, "nonsense", path);
	assert_int_equal(fixture_load(f, TEST_UPSTREAM "socket = \"/main\"\nlog_level = error\n"),
			 0);
	assert_string_equal(f->config->socket_path, "/twenty");
	assert_string_equal(f->config->state_dir, "/ten");
	assert_int_equal(f->config->log_level, LOG_LEVEL_ERROR);
	assert_int_equal(f->config->n_rules, 1);
	assert_non_null(config_profile(f->config, "b"));
	assert_non_null(strstr(config_profile(f->config, "b")->origin.text, "conf.d/20-b.conf:2"));
	/* one name twice: both places are named */
	(void)fixture_write(f, "conf.d/40-c.conf", 0600, "\nprofile \"b\" { }\n", path);
	assert_int_equal(fixture_load(f, TEST_UPSTREAM), CONFIG_E_INVALID);
	assert_logged(f, "conf.d/40-c.conf:2: profile \"b\" is already defined at ");
	assert_logged(f, "conf.d/20-b.conf:2");
}

static void test_files_that_are_not_to_be_trusted(void **state)
{
	struct fixture *f = *state;
	struct config_request req = { 0 };
	char path[256], *big;

	req.config_file = fixture_write(f, "keybroker.conf", 0666, TEST_UPSTREAM, path);
	assert_int_equal(fixture_load_request(f, &req), CONFIG_E_INVALID);
	assert_logged(f, "keybroker.conf: can be written by everybody: chmod o-w");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(fixture_load_request(f, &req), CONFIG_E_INVALID);
	assert_logged(f, "keybroker.conf: No such file or directory");
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(fixture_load_request(f, &req), CONFIG_E_INVALID);
	assert_logged(f, "keybroker.conf: is no regular file");
	big = malloc((1 << 20) + 2);
	assert_non_null(big);
	memset(big, '\n', (1 << 20) + 1);
	big[(1 << 20) + 1] = '\0';
	assert_int_equal(fixture_load(f, big), CONFIG_E_INVALID);
	assert_logged(f, "keybroker.conf: is longer than 1024 KiB");
	memcpy(big, TEST_UPSTREAM, sizeof(TEST_UPSTREAM) - 1);
	big[1 << 20] = '\0';
	assert_int_equal(fixture_load(f, big), 0);
	free(big);
}

static void test_the_default_file_is_optional(void **state)
{
	struct fixture *f = *state;
	char path[256];

	assert_int_equal(setenv("LITELLM_BASE_URL", "http://127.0.0.1:4000", 1), 0);
	assert_int_equal(fixture_load(f, NULL), 0);
	fixture_mkdir(f, ".config");
	fixture_mkdir(f, ".config/keybroker");
	(void)fixture_write(f, ".config/keybroker/keybroker.conf", 0600, "socket = \"/home\"\n",
			    path);
	assert_int_equal(fixture_load(f, NULL), 0);
	assert_string_equal(f->config->socket_path, "/home");
	assert_int_equal(setenv("XDG_CONFIG_HOME", "/nonexistent", 1), 0);
	assert_int_equal(fixture_load(f, NULL), 0);
	assert_string_not_equal(f->config->socket_path, "/home");
}

static void test_static_profiles_read_their_key_file(void **state)
{
	struct fixture *f = *state;
	char text[512], path[256];

	(void)fixture_write(f, "provider", 0600, "sk-provider\n", path);
	(void)snprintf(text, sizeof(text),
		       TEST_UPSTREAM "profile \"p\" {\n mode = static\n key_file = \"%s\" }\n",
		       path);
	assert_int_equal(fixture_load(f, text), 0);
	assert_string_equal(secret_text(config_profile(f->config, "p")->static_key), "sk-provider");
	assert_int_equal(chmod(path, 0640), 0);
	assert_int_equal(fixture_load(f, text), CONFIG_E_INVALID);
	assert_logged(f, "keybroker.conf:4: the key of profile \"p\" is not taken: ");
	assert_logged(f, "mode 0640");
	assert_int_equal(fixture_count_lines(f->log), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, test_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_whole_file),
		TEST(test_each_fault_is_named_with_its_line),
		TEST(test_faults_of_the_whole_are_named_with_their_line),
		TEST(test_globs_of_which_neither_holds_the_other),
		TEST(test_all_faults_are_reported_at_once),
		TEST(test_a_broken_file_does_not_spoil_the_next_load),
		TEST(test_environment_goes_before_file_and_flag_before_both),
		TEST(test_which_built_in_profiles_a_file_leaves),
		TEST(test_conf_d_is_read_after_in_order),
		TEST(test_files_that_are_not_to_be_trusted),
		TEST(test_the_default_file_is_optional),
		TEST(test_static_profiles_read_their_key_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
