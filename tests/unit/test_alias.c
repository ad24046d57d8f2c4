/* Alias templates: what they may name, what they expand to, and what happens at the end of the
 * room. */
#include "test.h"

#include <string.h>

#include "core/alias.h"

static const struct alias_values test_values = {
	.pid = 4321,
	.uid = 1000,
	.user = "eve",
	.unit = "agent@7.service",
	.host = "box",
	.profile = "process",
};

static void test_expands(const char *template, const char *expected)
{
	char got[256];

	alias_expand(template, &test_values, got, sizeof(got));
	assert_string_equal(got, expected);
}

static void test_each_field_expands(void **state)
{
	(void)state;
	test_expands("%{pid}", "4321");
	test_expands("%{uid}", "1000");
	test_expands("%{user}", "eve");
	test_expands("%{unit}", "agent@7.service");
	test_expands("%{host}", "box");
	test_expands("%{profile}", "process");
	test_expands("agents-%{pid}", "agents-4321");
	test_expands("%{host}%{host}-%{uid}.x", "boxbox-1000.x");
}

static void test_text_without_fields_stays(void **state)
{
	(void)state;
	test_expands("", "");
	test_expands("agents-service", "agents-service");
	test_expands("100%", "100%");
	test_expands("%%{pid}", "%4321");
	test_expands("{pid} %pid %(pid)", "{pid} %pid %(pid)");
}

/* A value that looks like a field is a value. */
static void test_values_are_not_expanded_again(void **state)
{
	struct alias_values v = test_values;
	char got[64];

	(void)state;
	v.user = "%{pid}";
	alias_expand("%{user}", &v, got, sizeof(got));
	assert_string_equal(got, "%{pid}");
}

static void test_extreme_and_absent_values(void **state)
{
	const struct alias_values v = { .pid = INT64_MIN, .uid = 4294967295 };
	char got[128];

	(void)state;
	alias_expand("%{pid} %{uid}", &v, got, sizeof(got));
	assert_string_equal(got, "-9223372036854775808 4294967295");
	alias_expand("<%{user}%{unit}%{host}%{profile}>", &v, got, sizeof(got));
	assert_string_equal(got, "<>");
}

static void test_what_does_not_fit_is_cut(void **state)
{
	char got[8];

	(void)state;
	for (size_t size = 1; size < sizeof(got); size++) {
		memset(got, '#', sizeof(got));
		alias_expand("a%{pid}b", &test_values, got, size);
		assert_int_equal(strlen(got), MIN_OF(size - 1, strlen("a4321b")));
		assert_memory_equal(got, "a4321b", strlen(got));
		assert_int_equal(got[size], '#');
	}
}

static void test_control_characters_become_underscores(void **state)
{
	struct alias_values v = test_values;
	char got[64], text[] = "a?b";

	(void)state;
	for (int c = 1; c < 256; c++) {
		bool control = c < 0x20 || c == 0x7f;

		text[1] = (char)c;
		v.user = text;
		alias_expand("%{user}", &v, got, sizeof(got));
		assert_int_equal(got[1], control ? '_' : c < 0x80 ? c : '?');
		alias_expand(text, &v, got, sizeof(got)); /* of the template too */
		assert_int_equal(got[1], control ? '_' : c < 0x80 ? c : '?');
	}
}

static void test_errors_point_at_the_fault(void **state)
{
	static const struct {
		const char *template, *error; /* NULL: well-formed */
	} cases[] = {
		{ "", NULL },
		{ "agents", NULL },
		{ "100% {pid}", NULL },
		{ "%{pid}%{uid}%{user}%{unit}%{host}%{profile}", NULL },
		{ "%%{pid}", NULL },
		{ "a-%{nope}-%{pid}", "%{nope}-%{pid}" },
		{ "%{pid}-%{gid}", "%{gid}" },
		{ "%{pid", "%{pid" },
		{ "x%{", "%{" },
		{ "%{}", "%{}" },
		{ "%{PID}", "%{PID}" },
		{ "%{ pid}", "%{ pid}" },
		{ "%{%{pid}}", "%{%{pid}}" },
		{ "%{process.pid}", "%{process.pid}" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *error = alias_template_error(cases[i].template);

		if (!cases[i].error) {
			assert_null(error);
			continue;
		}
		assert_non_null(error);
		assert_string_equal(error, cases[i].error);
		assert_true(error >= cases[i].template &&
			    error < cases[i].template + strlen(cases[i].template));
	}
}

static void test_only_some_fields_vary(void **state)
{
	(void)state;
	assert_true(alias_template_varies("%{pid}"));
	assert_true(alias_template_varies("a%{uid}"));
	assert_true(alias_template_varies("%{host}-%{user}"));
	assert_true(alias_template_varies("%{unit}%{host}"));
	assert_false(alias_template_varies("%{host}-%{profile}"));
	assert_false(alias_template_varies("agents-pid"));
	assert_false(alias_template_varies("%{pid"));
	assert_false(alias_template_varies(""));
}

static void test_appending_cuts_the_alias_and_keeps_the_suffix(void **state)
{
	char got[12];

	(void)state;
	alias_append("agents", '.', "g2", got, sizeof(got));
	assert_string_equal(got, "agents.g2");
	alias_append("agents-service", '-', "Ab3", got, sizeof(got));
	assert_string_equal(got, "agents--Ab3");
	alias_append("agents-s", '.', "g2", got, sizeof(got));
	assert_string_equal(got, "agents-s.g2"); /* fits exactly */
	alias_append("agents-se", '.', "g2", got, sizeof(got));
	assert_string_equal(got, "agents-s.g2");
	alias_append("", '.', "g2", got, sizeof(got));
	assert_string_equal(got, ".g2");
	alias_append("agents", '-', "a-very-long-suffix", got, sizeof(got));
	assert_string_equal(got, "-a-very-lon");
}

static void test_no_character_is_halved(void **state)
{
	const struct alias_values v = { .user = "caf\xe9", .unit = "\xe2\x82\xac\xe2\x82\xac" };
	char got[12];

	(void)state;
	alias_append("agents\xe2\x82\xacs", '.', "g2", got, sizeof(got));
	assert_string_equal(got, "agents.g2");
	alias_append("\xe2\x82\xac\xc3\xbcxyz", '.', "g2", got, sizeof(got));
	assert_string_equal(got, "\xe2\x82\xac\xc3\xbcxyz.g2");
	alias_expand("123456-%{unit}", &v, got, sizeof(got));
	assert_string_equal(got, "123456-\xe2\x82\xac");
	alias_expand("%{user}-x", &v, got, sizeof(got));
	assert_string_equal(got, "caf?-x");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_field_expands),
		cmocka_unit_test(test_text_without_fields_stays),
		cmocka_unit_test(test_values_are_not_expanded_again),
		cmocka_unit_test(test_extreme_and_absent_values),
		cmocka_unit_test(test_what_does_not_fit_is_cut),
		cmocka_unit_test(test_control_characters_become_underscores),
		cmocka_unit_test(test_errors_point_at_the_fault),
		cmocka_unit_test(test_only_some_fields_vary),
		cmocka_unit_test(test_appending_cuts_the_alias_and_keeps_the_suffix),
		cmocka_unit_test(test_no_character_is_halved),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
