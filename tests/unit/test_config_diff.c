/* What a reload has changed, in numbers. */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crypt.h"
#include "base/secret.h"
#include "core/config.h"
#include "core/config_build.h"
#include "core/config_diff.h"
#include "core/option.h"

static void test_report(_unused_ void *userdata, const char *origin, const char *message)
{
	fail_msg("%s: %s", origin, message);
}

static const struct config_report test_reporter = { .error = test_report };

static void test_set(enum option_section section, const char *name, const char *text, void *base)
{
	char why[OPTION_WHY_MAX];

	assert_int_equal(option_set(option_find(section, name), &text, 1, base, "here:1", why), 0);
}

/* A configuration with these profiles and rules. */
static struct config *test_config(const char *profiles, const char *rules)
{
	struct config_report report = test_reporter;
	struct config *c = config_new();
	char name[2] = "";

	for (; *profiles; profiles++) {
		name[0] = *profiles;
		assert_non_null(config_add_profile(c, name, "f:1", &report));
	}
	for (; *rules; rules++) {
		name[0] = *rules;
		assert_non_null(config_add_rule(c, name, "f:2", &report));
	}
	return c;
}

static void test_counts(const struct config_diff_counts *found, size_t added, size_t removed,
			size_t changed)
{
	assert_int_equal(found->added, added);
	assert_int_equal(found->removed, removed);
	assert_int_equal(found->changed, changed);
}

static void test_the_same_twice_has_no_difference(_unused_ void **state)
{
	_cleanup_(config_freep) struct config *a = test_config("ab", "xy");
	_cleanup_(config_freep) struct config *b = test_config("ab", "xy");
	struct config_diff d;

	a->master_key = secret_new("sk-1", 4);
	b->master_key = secret_new("sk-1", 4);
	test_set(SECTION_UPSTREAM, "url", "http://127.0.0.1:4000", a);
	test_set(SECTION_UPSTREAM, "url", "http://127.0.0.1:4000", b);
	config_diff(a, b, &d);
	assert_int_equal(d.settings, 0);
	test_counts(&d.profiles, 0, 0, 0);
	test_counts(&d.rules, 0, 0, 0);
}

static void test_settings_and_secrets_count(_unused_ void **state)
{
	_cleanup_(config_freep) struct config *a = test_config("ab", "");
	_cleanup_(config_freep) struct config *b = test_config("ab", "");
	struct config_diff d;

	a->master_key = secret_new("sk-1", 4);
	test_set(SECTION_LIMITS, "leases", "7", b);
	test_set(SECTION_UPSTREAM, "ca_file", "/etc/ca.pem", b);
	b->profiles[1].static_key = secret_new("sk-2", 4);
	config_diff(a, b, &d);
	assert_int_equal(d.settings, 3); /* one of them the master key that is gone */
	test_counts(&d.profiles, 0, 0, 1);
	secret_free(TAKE(a->master_key));
	a->master_key = secret_new("sk-1", 4);
	b->master_key = secret_new("sk-3", 4);
	config_diff(a, b, &d);
	assert_int_equal(d.settings, 3); /* one of them the master key that is another */
}

static void test_profiles_are_compared_by_name(_unused_ void **state)
{
	_cleanup_(config_freep) struct config *a = test_config("abcd", "");
	_cleanup_(config_freep) struct config *b = test_config("edcb", "");
	struct config_diff d;

	test_set(SECTION_PROFILE, "duration", "1h", &b->profiles[1]);
	test_set(SECTION_KEY, "rpm_limit", "5", &b->profiles[2]);
	config_diff(a, b, &d);
	test_counts(&d.profiles, 1, 1, 2); /* their order means nothing */
	assert_int_equal(d.settings, 0);
}

static void test_the_order_of_rules_means_something(_unused_ void **state)
{
	_cleanup_(config_freep) struct config *a = test_config("", "uvwx");
	_cleanup_(config_freep) struct config *moved = test_config("", "xuvw");
	_cleanup_(config_freep) struct config *b = test_config("", "uywx");
	struct config_diff d;

	config_diff(a, moved, &d);
	test_counts(&d.rules, 0, 0, 1);
	config_diff(a, b, &d);
	test_counts(&d.rules, 1, 1, 0); /* what stays has stayed in its order */
	test_set(SECTION_RULE, "uid", "7", &b->rules[3]);
	config_diff(a, b, &d);
	test_counts(&d.rules, 1, 1, 1);
}

static void test_words(_unused_ void **state)
{
	_cleanup_(config_freep) struct config *a = test_config("ab", "x");
	_cleanup_(config_freep) struct config *b = test_config("bcd", "");
	char text[256];

	config_diff_describe(a, b, text, sizeof(text));
	assert_string_equal(text, "3 profiles (2 added, 1 removed, 0 changed), 0 rules (0 added, 1 "
				  "removed, 0 changed), 0 settings changed");
}

static int setup(_unused_ void **state)
{
	return crypt_init();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_same_twice_has_no_difference),
		cmocka_unit_test(test_settings_and_secrets_count),
		cmocka_unit_test(test_profiles_are_compared_by_name),
		cmocka_unit_test(test_the_order_of_rules_means_something),
		cmocka_unit_test(test_words),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
