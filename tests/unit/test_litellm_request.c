/* The exact bodies and paths that LiteLLM is sent. */
#include "test.h"

#include <stdlib.h>
#include <string.h>

#include "base/crypt.h"
#include "base/json.h"
#include "base/secret.h"
#include "core/litellm.h"

#define HASH "00000000000000a100000000000000a100000000000000a100000000000000a1"

static void check_body(char *text, const char *expected)
{
	assert_string_equal(text, expected);
	assert_null(strstr(text, "null")); /* trap 4 */
	json_text_free(text);
}

static void check_path(char *path, const char *expected)
{
	assert_string_equal(path, expected);
	free(path);
}

static void test_a_full_mint_body(void **state)
{
	char one[] = "gpt-5", two[] = "mock \"x\"", month[] = "30d";
	char *const models[] = { one, two };
	struct key_limits limits = {
		.max_budget = 0.1, .rpm_limit = 60, .tpm_limit = 0, .budget_duration = month
	};
	struct secret *key = secret_new("sk-placeholder00000001", 22);
	struct litellm_mint m = { .key = key,
				  .alias = "agents-1",
				  .user_id = "keybroker:i",
				  .team_id = "t",
				  .duration = "30d",
				  .install = "i",
				  .intent = "j",
				  .models = models,
				  .n_models = 2,
				  .limits = &limits,
				  .blocked = true };

	(void)state;
	check_body(litellm_mint_body(&m),
		   "{\"key\":\"sk-placeholder00000001\",\"key_alias\":\"agents-1\","
		   "\"key_type\":\"llm_api\",\"user_id\":\"keybroker:i\",\"team_id\":\"t\","
		   "\"duration\":\"30d\",\"models\":[\"gpt-5\",\"mock \\\"x\\\"\"],"
		   "\"metadata\":{\"keybroker\":{\"install\":\"i\",\"intent\":\"j\"}},"
		   "\"max_budget\":0.1,\"rpm_limit\":60,\"tpm_limit\":0,"
		   "\"budget_duration\":\"30d\",\"blocked\":true}");
	secret_free(key);
}

/* Traps 4 and 8: nothing that is not set is sent, but never an empty list of models. */
static void test_a_mint_body_without_what_is_not_set(void **state)
{
	struct key_limits limits = { .max_budget = -1, .rpm_limit = -1, .tpm_limit = -1 };
	struct litellm_mint m = {
		.alias = "a", .user_id = "u", .install = "i", .intent = "j", .limits = &limits
	};

	(void)state;
	check_body(litellm_mint_body(&m),
		   "{\"key_alias\":\"a\",\"key_type\":\"llm_api\",\"user_id\":\"u\","
		   "\"models\":[\"no-default-models\"],"
		   "\"metadata\":{\"keybroker\":{\"install\":\"i\",\"intent\":\"j\"}}}");
	m.limits = NULL;
	check_body(litellm_mint_body(&m),
		   "{\"key_alias\":\"a\",\"key_type\":\"llm_api\",\"user_id\":\"u\","
		   "\"models\":[\"no-default-models\"],"
		   "\"metadata\":{\"keybroker\":{\"install\":\"i\",\"intent\":\"j\"}}}");
}

static void test_an_alias_that_is_not_utf8_is_still_sent(void **state)
{
	(void)state;
	check_body(litellm_update_body(HASH, NULL, "caf\xe9"),
		   "{\"key\":\"" HASH "\",\"key_alias\":\"caf?\"}");
}

static void test_the_small_bodies(void **state)
{
	(void)state;
	check_body(litellm_update_body(HASH, "30m", NULL),
		   "{\"key\":\"" HASH "\",\"duration\":\"30m\"}");
	check_body(litellm_update_body(HASH, NULL, "a.g1"),
		   "{\"key\":\"" HASH "\",\"key_alias\":\"a.g1\"}");
	check_body(litellm_block_body(HASH), "{\"key\":\"" HASH "\"}");
	check_body(litellm_delete_body(HASH), "{\"keys\":[\"" HASH "\"]}"); /* never by alias */
}

static void test_bodies_of_teams(void **state)
{
	char month[] = "30d";
	const struct key_limits none = { -1, -1, -1, NULL }, some = { 2.5, -1, 100, month };

	(void)state;
	check_body(litellm_team_body("id", "alias", "install", NULL),
		   "{\"team_id\":\"id\",\"team_alias\":\"alias\",\"metadata\":{\"keybroker\":{"
		   "\"install\":\"install\"}}}");
	check_body(litellm_team_body("id", "alias", "install", &some),
		   "{\"team_id\":\"id\",\"team_alias\":\"alias\",\"metadata\":{\"keybroker\":{"
		   "\"install\":\"install\"}},\"max_budget\":2.5,\"tpm_limit\":100,"
		   "\"budget_duration\":\"30d\"}");
	check_body(litellm_team_update_body("id", &some),
		   "{\"team_id\":\"id\",\"max_budget\":2.5,\"tpm_limit\":100,"
		   "\"budget_duration\":\"30d\"}");
	check_body(litellm_team_update_body("id", &none), "{\"team_id\":\"id\"}");
}

static void test_paths_are_escaped(void **state)
{
	(void)state;
	check_path(litellm_info_path(HASH), "/key/info?key=" HASH);
	check_path(litellm_list_path("keybroker:i", NULL, 1),
		   "/key/list?user_id=keybroker%3Ai&page=1&size=100&return_full_object=true");
	check_path(litellm_list_path(NULL, "a&b=c #\xc3\xa4%~", 12),
		   "/key/list?key_alias=a%26b%3Dc%20%23%C3%A4%25~&page=12&size=100"
		   "&return_full_object=true");
	check_path(litellm_team_info_path("my team"),
		   "/v2/team/list?team_id=my%20team&page=1&page_size=100");
	check_path(litellm_team_find_path("agents", 2),
		   "/v2/team/list?team_alias=agents&page=2&page_size=100");
}

static void test_reading_is_get_and_changing_is_post(void **state)
{
	(void)state;
	assert_string_equal(litellm_method(LITELLM_GENERATE), "POST");
	assert_string_equal(litellm_path(LITELLM_GENERATE), "/key/generate");
	assert_string_equal(litellm_method(LITELLM_DELETE), "POST");
	assert_string_equal(litellm_path(LITELLM_TEAM_NEW), "/team/new");
	assert_string_equal(litellm_method(LITELLM_INFO), "GET");
	assert_string_equal(litellm_method(LITELLM_TEAM_FIND), "GET");
}

static void test_a_team_id_follows_from_its_alias(void **state)
{
	char a[TEAM_ID_MAX], b[TEAM_ID_MAX];

	(void)state;
	litellm_team_id("agents-service", a);
	litellm_team_id("agents-service", b);
	assert_string_equal(a, b);
	assert_int_equal(strlen(a), strlen("keybroker-") + 32);
	litellm_team_id("abc", a);
	assert_string_equal(a, "keybroker-ba7816bf8f01cfea414140de5dae2223");
}

static int start(void **state)
{
	(void)state;
	json_init();
	return crypt_init();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_full_mint_body),
		cmocka_unit_test(test_a_mint_body_without_what_is_not_set),
		cmocka_unit_test(test_an_alias_that_is_not_utf8_is_still_sent),
		cmocka_unit_test(test_the_small_bodies),
		cmocka_unit_test(test_bodies_of_teams),
		cmocka_unit_test(test_paths_are_escaped),
		cmocka_unit_test(test_reading_is_get_and_changing_is_post),
		cmocka_unit_test(test_a_team_id_follows_from_its_alias),
	};

	return cmocka_run_group_tests(tests, start, NULL);
}
