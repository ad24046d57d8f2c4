/* The table of options: text to value and back, defaults, origins. */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/config.h"
#include "core/config_build.h"
#include "core/option.h"

static void test_report(_unused_ void *userdata, const char *origin, const char *message)
{
	fail_msg("%s: %s", origin, message);
}

static int test_set(enum option_section section, const char *name, const char *text, void *base,
		    char why[OPTION_WHY_MAX])
{
	return option_set(option_find(section, name), &text, 1, base, "here:1", why);
}

static void test_each_row_has_what_the_file_of_init_needs(_unused_ void **state)
{
	for (size_t i = 0; i < option_count(); i++) {
		const struct option *o = option_at(i);

		assert_true(o->help && strlen(o->help) > 10);
		assert_true(o->fallback || o->example);
		assert_ptr_equal(option_find(o->section, o->name), o);
		assert_true(o->type != OPTION_ENUM || o->names);
		for (size_t j = 0; j < 2; j++)
			assert_true(!o->env[j].fallback || o->env[j].variable);
	}
}

/* The table repeats what struct timing says; they must not drift apart. */
static void test_the_defaults_are_those_of_timing(_unused_ void **state)
{
	struct config *c = config_new();

	assert_memory_equal(&c->timing, &timing_default, sizeof(c->timing));
	assert_int_equal(c->max_connections, 2048);
	assert_int_equal(c->max_leases, 4096);
	assert_int_equal(c->max_buffered_bytes, 256 * 1024);
	assert_int_equal(c->mints_per_minute, 60);
	assert_int_equal(c->durability, DURABILITY_POWER_LOSS);
	assert_int_equal(c->log_level, LOG_LEVEL_INFO);
	assert_int_equal(c->audit_warn_size, 1 << 30);
	assert_true(c->cleanup_old_keys);
	assert_false(c->insecure_http);
	config_free(c);
}

static void test_what_a_rule_and_a_profile_leave_out_is_absent(_unused_ void **state)
{
	struct config_report report = { .error = test_report };
	struct config *c = config_new();
	struct profile *p = config_add_profile(c, "a", "f:1", &report);
	struct rule *r = config_add_rule(c, "b", "f:2", &report);

	assert_true(p->key.max_budget < 0);
	assert_int_equal(p->key.rpm_limit, -1);
	assert_int_equal(p->rotate_every_ms, 0);
	assert_null(p->duration);
	assert_int_equal(r->max_leases, -1);
	assert_int_equal(r->mints_per_minute, -1);
	assert_int_equal(r->ttl_cap_ms, -1);
	assert_false(r->has_uid);
	for (size_t i = 0; i < option_count(); i++) {
		bool may_lack = option_at(i)->section == SECTION_RULE &&
				option_at(i)->type != OPTION_BOOL; /* always has a value */
		char *value = may_lack ? option_show(option_at(i), r) : NULL;

		assert_null(value);
	}
	config_free(c);
}

static void test_a_value_is_shown_as_it_can_be_read_again(_unused_ void **state)
{
	static const struct {
		enum option_section section;
		const char *name, *text, *shown;
	} values[] = {
		{ SECTION_TOP, "socket", "/run/a \"b\"\\c", "\"/run/a \\\"b\\\"\\\\c\"" },
		{ SECTION_TOP, "durability", "crash", "crash" },
		{ SECTION_TOP, "audit_warn_size", "2048M", "\"2G\"" },
		{ SECTION_TOP, "audit_warn_size", "1025", "1025" },
		{ SECTION_TOP, "audit_warn_size", "3K", "\"3K\"" },
		{ SECTION_TOP, "audit_warn_size", "0", "0" },
		{ SECTION_TOP, "cleanup_old_keys", "FALSE", "no" },
		{ SECTION_UPSTREAM, "insecure_http", "1", "yes" },
		{ SECTION_UPSTREAM, "url", "https://h/v1/", "\"https://h\"" },
		{ SECTION_UPSTREAM, "base_url", "https://h/v1/", "\"https://h/v1\"" },
		{ SECTION_UPSTREAM, "timeout", "90s", "\"90s\"" },
		{ SECTION_LEASE, "ttl_max", "48h", "\"2d\"" },
		{ SECTION_LEASE, "grace", "120m", "\"2h\"" },
		{ SECTION_LIMITS, "leases", "007", "7" },
		{ SECTION_PROFILE, "duration", "1mo", "\"1mo\"" },
		{ SECTION_PROFILE, "alias", "a-%{host}", "\"a-%{host}\"" },
		{ SECTION_PROFILE, "models", "gpt-5", "{ \"gpt-5\" }" },
		{ SECTION_KEY, "max_budget", "5", "5.0" },
		{ SECTION_KEY, "max_budget", "0.001", "0.001" },
		{ SECTION_KEY, "rpm_limit", "0", "0" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		struct config_report report = { .error = test_report };
		struct config *c = config_new();
		struct profile *p = config_add_profile(c, "p", "f:1", &report);
		void *base = values[i].section < SECTION_PROFILE ? (void *)c : p;
		const struct option *o = option_find(values[i].section, values[i].name);
		char why[OPTION_WHY_MAX], *shown;

		assert_false(option_was_set(o, base));
		assert_string_equal(option_origin(o, base), "default");
		assert_int_equal(
			test_set(values[i].section, values[i].name, values[i].text, base, why), 0);
		assert_true(option_was_set(o, base));
		assert_string_equal(option_origin(o, base), "here:1");
		shown = option_show(o, base);
		assert_string_equal(shown, values[i].shown);
		free(shown);
		config_free(c);
	}
}

static void test_a_bad_value_says_why_and_leaves_the_old_one(_unused_ void **state)
{
	static const struct {
		enum option_section section;
		const char *name, *text, *why;
	} bad[] = {
		{ SECTION_TOP, "socket", "run/x", "absolute" },
		{ SECTION_TOP, "durability", "fast", "power_loss, crash" },
		{ SECTION_TOP, "log_level", "3", "error, warning, info, debug" },
		{ SECTION_TOP, "cleanup_old_keys", "maybe", "yes or no" },
		{ SECTION_UPSTREAM, "url", "ftp://h", "http://" },
		{ SECTION_UPSTREAM, "retry_max", "0", "from 1 to 100" },
		{ SECTION_UPSTREAM, "retry_max", "-3", "whole number" },
		{ SECTION_UPSTREAM, "retry_max", "+3", "whole number" },
		{ SECTION_UPSTREAM, "retry_max", "3x", "whole number" },
		{ SECTION_UPSTREAM, "retry_max", " 3", "whole number" },
		{ SECTION_UPSTREAM, "retry_max", "", "whole number" },
		{ SECTION_UPSTREAM, "retry_max", "99999999999999999999", "whole number" },
		{ SECTION_TOP, "audit_warn_size", "", "size" },
		{ SECTION_TOP, "audit_warn_size", "G", "size" },
		{ SECTION_TOP, "audit_warn_size", "1g", "size" },
		{ SECTION_TOP, "audit_warn_size", "1GB", "size" },
		{ SECTION_TOP, "audit_warn_size", "1.5G", "size" },
		{ SECTION_TOP, "audit_warn_size", "-1", "size" },
		{ SECTION_TOP, "audit_warn_size", "99999999999G", "size" },
		{ SECTION_UPSTREAM, "timeout", "500ms", "duration" },
		{ SECTION_LEASE, "ttl", "30", "duration" },
		{ SECTION_PROFILE, "duration", "1h30m", "duration" },
		{ SECTION_PROFILE, "alias", "a-%{nonsense}", "%{nonsense}" },
		{ SECTION_PROFILE, "alias", "a-${pid}", "write %{" },
		{ SECTION_PROFILE, "alias", "", "empty" },
		{ SECTION_PROFILE, "models", "", "item 1 is empty" },
		{ SECTION_KEY, "max_budget", "abc", "number" },
		{ SECTION_KEY, "max_budget", "-1", "number" },
		{ SECTION_KEY, "max_budget", "inf", "number" },
		{ SECTION_KEY, "max_budget", "0x10", "number" },
		{ SECTION_KEY, "max_budget", ".", "number" },
		{ SECTION_KEY, "tpm_limit", "-1", "whole number" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct config_report report = { .error = test_report };
		struct config *c = config_new();
		struct profile *p = config_add_profile(c, "p", "f:1", &report);
		void *base = bad[i].section < SECTION_PROFILE ? (void *)c : p;
		const struct option *o = option_find(bad[i].section, bad[i].name);
		char *before = option_show(o, base), *after, why[OPTION_WHY_MAX] = "";

		if (test_set(bad[i].section, bad[i].name, bad[i].text, base, why) != OPTION_E_BAD)
			fail_msg("%s = %s was taken", bad[i].name, bad[i].text);
		if (!strstr(why, bad[i].why))
			fail_msg("%s = %s: %s", bad[i].name, bad[i].text, why);
		after = option_show(o, base);
		assert_true(before == after || strcmp(before, after) == 0);
		assert_false(option_was_set(o, base));
		free(before);
		free(after);
		config_free(c);
	}
}

/* Who writes the key where a file or URL belongs must not find it in the log. */
static void test_no_message_repeats_a_path_or_a_url(_unused_ void **state)
{
	struct config *c = config_new();
	char why[OPTION_WHY_MAX];

	assert_int_equal(test_set(SECTION_UPSTREAM, "master_key_file", "sk-secret", c, why),
			 OPTION_E_BAD);
	assert_null(strstr(why, "secret"));
	assert_int_equal(test_set(SECTION_UPSTREAM, "url", "http://me:secret@h", c, why),
			 OPTION_E_BAD);
	assert_null(strstr(why, "secret"));
	config_free(c);
}

static void test_a_list_is_replaced_as_a_whole(_unused_ void **state)
{
	struct config_report report = { .error = test_report };
	struct config *c = config_new();
	struct profile *p = config_add_profile(c, "p", "f:1", &report);
	const struct option *o = option_find(SECTION_PROFILE, "models");
	const char *first[] = { "a", "b" }, *empty[] = { "c", "" };
	char why[OPTION_WHY_MAX], *shown;

	assert_int_equal(option_set(o, first, 2, p, "f:1", why), 0);
	assert_int_equal(option_set(o, empty, 2, p, "f:2", why), OPTION_E_BAD);
	assert_string_equal(why, "item 2 is empty");
	assert_int_equal(option_set(o, NULL, 0, p, "f:2", why), OPTION_E_BAD);
	shown = option_show(o, p);
	assert_string_equal(shown, "{ \"a\", \"b\" }");
	free(shown);
	assert_int_equal(option_set(o, first + 1, 1, p, "f:3", why), 0);
	assert_int_equal(p->n_models, 1);
	assert_string_equal(option_origin(o, p), "f:3");
	config_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_row_has_what_the_file_of_init_needs),
		cmocka_unit_test(test_the_defaults_are_those_of_timing),
		cmocka_unit_test(test_what_a_rule_and_a_profile_leave_out_is_absent),
		cmocka_unit_test(test_a_value_is_shown_as_it_can_be_read_again),
		cmocka_unit_test(test_a_bad_value_says_why_and_leaves_the_old_one),
		cmocka_unit_test(test_no_message_repeats_a_path_or_a_url),
		cmocka_unit_test(test_a_list_is_replaced_as_a_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
