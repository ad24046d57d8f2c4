/* Rules against peers: default deny, the first rule that matches decides, nobody is nobody. */
#include "test.h"

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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
