/* Rules against peers: default deny, the first rule that matches decides, nobody is nobody. */
#include "test.h"

#include <string.h>

#include "core/policy.h"

static char test_any[] = "*", test_service[] = "service", test_process[] = "process";
static char *test_all[] = { test_any };
static char *test_one[] = { test_service };
static char *test_two[] = { test_process, test_service };

static struct rule test_rule(char **profiles, size_t n)
{
	return (struct rule){ .profiles = profiles, .n_profiles = n };
}

static struct peer test_peer(void)
{
	return (struct peer){
		.uid = 1000, .gid = 1000, .pid = 77, .groups = { 4, 27, 1001 }, .n_groups = 3
	};
}

static void test_without_rules_all_is_denied(void **state)
{
	const struct config c = { 0 };
	const struct peer peer = test_peer();
	struct verdict v = policy_check(&c, &peer, "service");

	(void)state;
	assert_false(v.allowed);
	assert_null(v.rule);
}

static void test_a_rule_that_names_no_peer_matches_all(void **state)
{
	const struct rule rule = test_rule(test_all, 1);
	struct peer peer = test_peer();

	(void)state;
	assert_true(policy_rule_matches(&rule, &peer));
	peer.uid = 0;
	assert_true(policy_rule_matches(&rule, &peer));
}

static void test_a_uid_must_be_the_peers(void **state)
{
	struct rule rule = test_rule(test_all, 1);
	struct peer peer = test_peer();

	(void)state;
	rule.has_uid = true;
	rule.uid = 1000;
	assert_true(policy_rule_matches(&rule, &peer));
	peer.uid = 1001;
	assert_false(policy_rule_matches(&rule, &peer));
	rule.uid = 0; /* root is a uid like any other */
	assert_false(policy_rule_matches(&rule, &peer));
	peer.uid = 0;
	assert_true(policy_rule_matches(&rule, &peer));
}

static void test_a_group_may_be_primary_or_supplementary(void **state)
{
	struct rule rule = test_rule(test_all, 1);
	struct peer peer = test_peer();

	(void)state;
	rule.has_gid = true;
	rule.gid = 1000;
	assert_true(policy_rule_matches(&rule, &peer));
	rule.gid = 4;
	assert_true(policy_rule_matches(&rule, &peer));
	rule.gid = 1001;
	assert_true(policy_rule_matches(&rule, &peer));
	peer.n_groups = 2; /* what lies behind the count is not the peer's */
	assert_false(policy_rule_matches(&rule, &peer));
	rule.gid = 0;
	assert_false(policy_rule_matches(&rule, &peer));
}

static void test_all_that_a_rule_names_must_match(void **state)
{
	struct rule rule = test_rule(test_all, 1);
	struct peer peer = test_peer();

	(void)state;
	rule.has_uid = rule.has_gid = true;
	rule.uid = 1000;
	rule.gid = 27;
	assert_true(policy_rule_matches(&rule, &peer));
	rule.gid = 28;
	assert_false(policy_rule_matches(&rule, &peer));
	rule.gid = 27;
	rule.uid = 1001;
	assert_false(policy_rule_matches(&rule, &peer));
}

/* Whoever the kernel could not map, and whoever lives in a foreign pid namespace. */
static void test_nobody_never_matches(void **state)
{
	struct rule rule = test_rule(test_all, 1);
	struct peer peer = test_peer();

	(void)state;
	peer.uid = 65534;
	assert_false(policy_rule_matches(&rule, &peer));
	rule.has_uid = true;
	rule.uid = 65534;
	assert_false(policy_rule_matches(&rule, &peer));
	rule.has_uid = false;
	for (uid_t uid = 65533; uid <= 65535; uid += 2) {
		peer.uid = uid;
		assert_true(policy_rule_matches(&rule, &peer));
	}
	peer.pid = 0;
	assert_false(policy_rule_matches(&rule, &peer));
	rule.has_uid = true;
	rule.uid = peer.uid;
	assert_false(policy_rule_matches(&rule, &peer));
	peer.pid = 1;
	assert_true(policy_rule_matches(&rule, &peer));
}

static void test_profiles_are_named_or_all(void **state)
{
	struct rule rule = test_rule(test_one, 1);
	const struct config c = { .rules = &rule, .n_rules = 1 };
	const struct peer peer = test_peer();

	(void)state;
	assert_true(policy_check(&c, &peer, "service").allowed);
	assert_false(policy_check(&c, &peer, "process").allowed);
	assert_false(policy_check(&c, &peer, "servic").allowed);
	assert_false(policy_check(&c, &peer, "service2").allowed);
	assert_false(policy_check(&c, &peer, "Service").allowed);
	assert_false(policy_check(&c, &peer, "*").allowed);
	rule = test_rule(test_two, 2);
	assert_true(policy_check(&c, &peer, "service").allowed);
	assert_true(policy_check(&c, &peer, "process").allowed);
	assert_false(policy_check(&c, &peer, "other").allowed);
	rule = test_rule(test_all, 1);
	assert_true(policy_check(&c, &peer, "other").allowed);
	rule = test_rule(NULL, 0);
	assert_false(policy_check(&c, &peer, "service").allowed);
}

static void test_the_first_rule_that_matches_decides(void **state)
{
	struct rule rules[] = { test_rule(test_all, 1), test_rule(test_one, 1),
				test_rule(test_two, 2), test_rule(test_all, 1) };
	const struct config c = { .rules = rules, .n_rules = ARRAY_SIZE(rules) - 1 };
	struct peer peer = test_peer();
	struct verdict v;

	(void)state;
	rules[0].has_uid = true;
	rules[0].uid = 0; /* another's */
	v = policy_check(&c, &peer, "service");
	assert_true(v.allowed);
	assert_ptr_equal(v.rule, &rules[1]);
	v = policy_check(&c, &peer, "process"); /* the second is of this peer, not this profile */
	assert_true(v.allowed);
	assert_ptr_equal(v.rule, &rules[2]);
	v = policy_check(&c, &peer, "other"); /* a rule beyond the count is none */
	assert_false(v.allowed);
	assert_null(v.rule);
	peer.uid = 0;
	v = policy_check(&c, &peer, "service");
	assert_ptr_equal(v.rule, &rules[0]);
}

static void test_units_are_globs(void **state)
{
	static const struct {
		const char *glob, *unit;
		bool matches;
	} rows[] = {
		{ "web.service", "web.service", true },
		{ "web.service", "web2.service", false },
		{ "web-*.service", "web-1.service", true },
		{ "web-*", "web-1.service", true },
		{ "web-?.service", "web-12.service", false },
		{ "[a-c]*", "b.scope", true },
		{ "*", "x.scope", true },
		{ "*", "", false },
		{ "a\\x2d*", "a\\x2db.service", true },
		{ "a\\x2d*", "ax2db.service", false },
	};
	struct rule rule = test_rule(test_all, 1);
	struct peer peer = test_peer();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		rule.unit = (char *)(uintptr_t)rows[i].glob;
		rule.user_unit = NULL;
		strcpy(peer.unit, rows[i].unit);
		strcpy(peer.user_unit, "");
		assert_int_equal(policy_rule_matches(&rule, &peer), rows[i].matches);
		rule.user_unit = rule.unit;
		rule.unit = NULL;
		assert_false(policy_rule_matches(&rule, &peer)); /* it is the system's */
		strcpy(peer.user_unit, rows[i].unit);
		assert_int_equal(policy_rule_matches(&rule, &peer), rows[i].matches);
	}
}

static void test_an_executable_is_the_file_of_its_name(void **state)
{
	char exe[] = "/usr/bin/agent";
	struct rule rule = test_rule(test_all, 1);
	struct peer peer = test_peer();

	(void)state;
	rule.exe = exe;
	assert_false(policy_rule_matches(&rule, &peer)); /* the broker may not see it */
	strcpy(peer.exe, "/usr/bin/agent2");
	assert_false(policy_rule_matches(&rule, &peer));
	strcpy(peer.exe, exe);
	assert_true(policy_rule_matches(&rule, &peer));
	peer.exe_elsewhere = true;
	assert_int_equal(policy_rule_miss(&rule, &peer, "service"), POLICY_EXE);
}

/* Of a foreign process only uid and group are known, and only a rule that says so takes it. */
static void test_a_foreign_process_needs_leave(void **state)
{
	char unit[] = "*";
	struct rule rule = test_rule(test_all, 1);
	struct peer peer = test_peer();

	(void)state;
	peer.pid = 0;
	peer.pinned = true;
	assert_int_equal(policy_rule_miss(&rule, &peer, "service"), POLICY_FOREIGN);
	rule.foreign_pid = true;
	assert_int_equal(policy_rule_miss(&rule, &peer, "service"), POLICY_FITS);
	rule.unit = unit;
	assert_int_equal(policy_rule_miss(&rule, &peer, "service"), POLICY_FOREIGN);
	rule.unit = NULL;
	peer.pinned = false;
	assert_int_equal(policy_rule_miss(&rule, &peer, "service"), POLICY_UNTOLD);
	peer.pid = 5; /* the rule is for others, too */
	assert_int_equal(policy_rule_miss(&rule, &peer, "service"), POLICY_FITS);
	peer.uid = 65534;
	assert_int_equal(policy_rule_miss(&rule, &peer, "service"), POLICY_NOBODY);
}

/* Root in a container is root to the kernel: rules are not for who came by a mounted socket. */
static void test_a_listen_section_is_for_its_socket_alone(void **state)
{
	struct rule rule = test_rule(test_all, 1), listen = test_rule(test_one, 1);
	char path[] = "/run/x/keybroker.sock";
	const struct config c = {
		.rules = &rule, .n_rules = 1, .listens = &listen, .n_listens = 1
	};
	struct peer peer = test_peer();

	(void)state;
	strcpy(listen.name, "web");
	listen.path = path;
	listen.has_gid = true; /* the socket's */
	listen.gid = 77;
	strcpy(peer.listen, "web");
	assert_ptr_equal(policy_check(&c, &peer, "service").rule, &listen);
	assert_false(policy_check(&c, &peer, "process").allowed);
	listen.waits = true; /* for the restart that gives it its socket */
	assert_false(policy_check(&c, &peer, "service").allowed);
	listen.waits = false;
	strcpy(peer.listen, "gone");
	assert_false(policy_check(&c, &peer, "service").allowed);
	peer.listen[0] = '\0';
	assert_ptr_equal(policy_check(&c, &peer, "service").rule, &rule);
	strcpy(peer.listen, "web");
	peer.uid = 65534;
	assert_false(policy_check(&c, &peer, "service").allowed);
	peer.uid = 1;
	peer.pid = 0;
	peer.pinned = true;
	assert_false(policy_check(&c, &peer, "service").allowed);
	listen.foreign_pid = true;
	assert_true(policy_check(&c, &peer, "service").allowed);
}

static void test_profiles_may_be_globs(void **state)
{
	static char glob[] = "batch-*";
	static char *globs[] = { glob };
	const struct rule rule = test_rule(globs, 1);

	(void)state;
	assert_true(policy_rule_names(&rule, "batch-1"));
	assert_false(policy_rule_names(&rule, "batch") || policy_rule_names(&rule, "a-batch-1"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_without_rules_all_is_denied),
		cmocka_unit_test(test_a_rule_that_names_no_peer_matches_all),
		cmocka_unit_test(test_a_uid_must_be_the_peers),
		cmocka_unit_test(test_a_group_may_be_primary_or_supplementary),
		cmocka_unit_test(test_all_that_a_rule_names_must_match),
		cmocka_unit_test(test_nobody_never_matches),
		cmocka_unit_test(test_profiles_are_named_or_all),
		cmocka_unit_test(test_the_first_rule_that_matches_decides),
		cmocka_unit_test(test_units_are_globs),
		cmocka_unit_test(test_an_executable_is_the_file_of_its_name),
		cmocka_unit_test(test_a_foreign_process_needs_leave),
		cmocka_unit_test(test_a_listen_section_is_for_its_socket_alone),
		cmocka_unit_test(test_profiles_may_be_globs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
