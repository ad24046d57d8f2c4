/* What client-go asks for in KUBERNETES_EXEC_INFO, and when it is to ask again. */
#include "test.h"

#include <string.h>

#include "cli/k8s_exec.h"

#define V1 "client.authentication.k8s.io/v1"
#define CLUSTER \
	"\"spec\":{\"cluster\":{\"config\":{\"apiVersion\":\"x/v7\"}},\"interactive\":false}"

static void test_version_is_the_one_asked_for(void **state)
{
	static const struct {
		const char *info, *version;
	} rows[] = {
		{ NULL, V1 },
		{ "", V1 },
		{ "{\"apiVersion\":\"" V1 "\"}", V1 },
		{ "{" CLUSTER ",\"apiVersion\":\"" V1 "beta1\"}", V1 "beta1" },
	};
	char why[256];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_string_equal(k8s_exec_version(rows[i].info, why, sizeof(why)),
				    rows[i].version);
}

static void test_other_versions_are_refused(void **state)
{
	static const struct {
		const char *info, *why;
	} rows[] = {
		{ "{\"apiVersion\":\"" V1 "alpha1\"}", V1 "alpha1" },
		{ "{\"apiVersion\":\"" V1 "\",\"apiVersion\":\"" V1 "beta1\"}", "no JSON object" },
		{ "{\"apiVersion\":1}", "with an apiVersion" },
		{ "{" CLUSTER "}", "with an apiVersion" },
		{ "[]", "no JSON object" },
		{ V1, "no JSON object" },
	};
	char why[256];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_null(k8s_exec_version(rows[i].info, why, sizeof(why)));
		assert_non_null(strstr(why, rows[i].why));
	}
}

static void test_credential_is_replaced_before_it_ends(void **state)
{
	(void)state;
	assert_int_equal(k8s_exec_until_ms(1000, 0, 0), 0);
	assert_int_equal(k8s_exec_until_ms(1000, 11000, 0), 10000);
	assert_int_equal(k8s_exec_until_ms(1000, 0, 11000), 10000);
	assert_int_equal(k8s_exec_until_ms(1000, 5000000, 11000), 10000);
	assert_int_equal(k8s_exec_until_ms(1000, 11000, 5000000), 10000);
	assert_int_equal(k8s_exec_until_ms(0, 3600000, 0), 3540000);
	assert_int_equal(k8s_exec_until_ms(2000, 1000, 0), 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_version_is_the_one_asked_for),
		cmocka_unit_test(test_other_versions_are_refused),
		cmocka_unit_test(test_credential_is_replaced_before_it_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
