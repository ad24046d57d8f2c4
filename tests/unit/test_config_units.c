/* Rules that wait for what this host does not have: warnings, and never an error. */
#include "test.h"

#include "config_fixture.h"

#include "io/config_units.h"

static void test_unit_files_are_found_by_name_glob_and_template(void **state)
{
	struct fixture *f = *state;
	char path[256];
	const char *const dirs[] = { "/nonexistent", f->dir };

	(void)fixture_write(f, "web@.service", 0644, "", path);
	(void)fixture_write(f, "nginx.service", 0644, "", path);
	assert_true(config_units_known("nginx.service", dirs, 2));
	assert_true(config_units_known("ngin?.service", dirs, 2));
	assert_true(config_units_known("web@1.service", dirs, 2));
	assert_true(config_units_known("web@1*.service", dirs, 2));
	assert_false(config_units_known("apache.service", dirs, 2));
	assert_false(config_units_known("web1.service", dirs, 2));
	assert_false(config_units_known("nginx.service", dirs, 1));
}

#define TEST_UPSTREAM "upstream { url = \"http://127.0.0.1:4000\" }\n"

static void test_what_matches_nothing_today_is_a_warning(void **state)
{
	static const char *const expected[] = {
		"keybroker.conf:3: rule \"r\": no profile matches \"batch-*\" today",
		"keybroker.conf:4: rule \"r\" matches nothing today: /nonexistent/agent: No such",
		"keybroker.conf:5: rule \"s\" never matches: uid 65534",
	};
	struct fixture *f = *state;
	size_t found = 0;

	assert_int_equal(setenv("LITELLM_MASTER_KEY", "sk-for-the-test", 1), 0);
	assert_int_equal(fixture_load(f, TEST_UPSTREAM
				      "rule \"r\" { uid = 1\n"
				      "profiles = { \"batch-*\" }\n"
				      "exe = \"/nonexistent/agent\" }\n"
				      "rule \"s\" { uid = 65534 profiles = { \"*\" } }\n"),
			 0);
	for (size_t i = 0; i < f->config->n_warnings; i++)
		for (size_t j = 0; j < ARRAY_SIZE(expected); j++)
			found += strstr(f->config->warnings[i], expected[j]) != NULL;
	assert_int_equal(found, ARRAY_SIZE(expected));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_unit_files_are_found_by_name_glob_and_template,
						fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_what_matches_nothing_today_is_a_warning,
						fixture_setup, fixture_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
