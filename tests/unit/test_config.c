/* The configuration as a value: look-up, base URLs, names. */
#include "test.h"

#include <stdlib.h>
#include <string.h>

#include "core/config.h"
#include "core/config_build.h"
#include "core/option.h"

static void test_count(_unused_ void *userdata, const char *origin, _unused_ const char *message)
{
	assert_string_equal(origin, "f:1");
}

static struct config *test_new(struct config_report *report)
{
	struct config *c = config_new();

	*report = (struct config_report){ .error = test_count };
	assert_non_null(config_add_profile(c, "a", "f:1", report));
	assert_non_null(config_add_rule(c, "r", "f:1", report));
	return c;
}

static void test_set(enum option_section section, const char *name, const char *text, void *base)
{
	char why[OPTION_WHY_MAX];

	assert_int_equal(option_set(option_find(section, name), &text, 1, base, "f:1", why), 0);
}

static void assert_base_url(const struct config *c, const char *expected)
{
	char *url = config_base_url(c, &c->profiles[0], &c->rules[0]);

	assert_string_equal(url, expected);
	free(url);
}

static void test_the_nearest_base_url_wins(_unused_ void **state)
{
	struct config_report report;
	struct config *c = test_new(&report);

	test_set(SECTION_UPSTREAM, "url", "http://127.0.0.1:4000/v1", c);
	assert_base_url(c, "http://127.0.0.1:4000/v1");
	test_set(SECTION_UPSTREAM, "base_url", "http://daemon/v1/", c);
	assert_base_url(c, "http://daemon/v1");
	test_set(SECTION_PROFILE, "base_url", "http://profile/v1", &c->profiles[0]);
	assert_base_url(c, "http://profile/v1");
	test_set(SECTION_RULE, "base_url", "http://rule/v1", &c->rules[0]);
	assert_base_url(c, "http://rule/v1");
	config_free(c);
}

/* Its key would be lost, or worse, at LiteLLM's address. */
static void test_a_provider_key_goes_to_its_provider_alone(_unused_ void **state)
{
	struct config_report report;
	struct config *c = test_new(&report);

	test_set(SECTION_PROFILE, "mode", "static", &c->profiles[0]);
	test_set(SECTION_UPSTREAM, "url", "http://127.0.0.1:4000", c);
	test_set(SECTION_UPSTREAM, "base_url", "http://daemon/v1/", c);
	test_set(SECTION_RULE, "base_url", "http://rule/v1", &c->rules[0]);
	assert_base_url(c, "https://api.openai.com/v1");
	test_set(SECTION_PROFILE, "base_url", "https://provider/v1", &c->profiles[0]);
	assert_base_url(c, "https://provider/v1");
	config_free(c);
}

static void test_profiles_are_found_by_name(_unused_ void **state)
{
	struct config_report report;
	struct config *c = test_new(&report);

	assert_non_null(config_add_profile(c, "b", "f:1", &report));
	assert_ptr_equal(config_profile(c, "a"), &c->profiles[0]);
	assert_ptr_equal(config_profile(c, "b"), &c->profiles[1]);
	assert_null(config_profile(c, "*"));
	assert_null(config_profile(c, ""));
	config_free(c);
}

static void test_bad_names_are_reported(_unused_ void **state)
{
	static const char *const bad[] = { "", "a b", "a/b", "*", "ä", "a\n" };
	struct config_report report;
	struct config *c = test_new(&report);
	char name[PROFILE_NAME_MAX + 1];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_null(config_add_profile(c, bad[i], "f:1", &report));
		assert_int_equal(report.n_errors, 2 * i + 1);
		assert_null(config_add_rule(c, bad[i], "f:1", &report));
		assert_int_equal(report.n_errors, 2 * i + 2);
	}
	memset(name, 'a', sizeof(name));
	name[PROFILE_NAME_MAX] = '\0';
	assert_null(config_add_profile(c, name, "f:1", &report));
	name[PROFILE_NAME_MAX - 1] = '\0';
	assert_non_null(config_add_profile(c, name, "f:1", &report));
	config_free(c);
}

static void test_alias_and_duration_follow_the_mode(_unused_ void **state)
{
	struct config_report report;
	struct config *c = test_new(&report);

	assert_non_null(config_add_profile(c, "d", "f:1", &report));
	assert_non_null(config_add_profile(c, "s", "f:1", &report));
	test_set(SECTION_PROFILE, "mode", "dedicated", &c->profiles[1]);
	test_set(SECTION_PROFILE, "mode", "static", &c->profiles[2]);
	config_finish_profiles(c);
	assert_string_equal(c->profiles[0].alias, "%{profile}");
	assert_null(c->profiles[0].duration);
	assert_string_equal(c->profiles[1].alias, "%{profile}-%{pid}");
	assert_string_equal(c->profiles[1].duration, "30d");
	assert_int_equal(c->profiles[1].duration_ms, INT64_C(2592000000));
	assert_null(c->profiles[2].alias);
	assert_string_equal(profile_mode_name(c->profiles[2].mode), "static");
	config_free(c);
	config_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_nearest_base_url_wins),
		cmocka_unit_test(test_a_provider_key_goes_to_its_provider_alone),
		cmocka_unit_test(test_profiles_are_found_by_name),
		cmocka_unit_test(test_bad_names_are_reported),
		cmocka_unit_test(test_alias_and_duration_follow_the_mode),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
