/* What each recorded answer means, in both versions, and what must never be believed. */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/crypt.h"
#include "base/json.h"
#include "base/secret.h"
#include "core/litellm.h"

#define HASH "00000000000000a100000000000000a100000000000000a100000000000000a1"

static const char *const kind_names[] = {
	[LITELLM_OK] = "OK",
	[LITELLM_EXISTS] = "EXISTS",
	[LITELLM_GONE] = "GONE",
	[LITELLM_REFUSED] = "REFUSED",
	[LITELLM_FORBIDS_KEY] = "FORBIDS_KEY",
	[LITELLM_UNAUTHORIZED] = "UNAUTHORIZED",
	[LITELLM_UNAVAILABLE] = "UNAVAILABLE",
};

static const char *const op_names[] = {
	[LITELLM_GENERATE] = "GENERATE",   [LITELLM_INFO] = "INFO",
	[LITELLM_UPDATE] = "UPDATE",	   [LITELLM_BLOCK] = "BLOCK",
	[LITELLM_DELETE] = "DELETE",	   [LITELLM_LIST] = "LIST",
	[LITELLM_TEAM_NEW] = "TEAM_NEW",   [LITELLM_TEAM_INFO] = "TEAM_INFO",
	[LITELLM_TEAM_FIND] = "TEAM_FIND", [LITELLM_TEAM_UPDATE] = "TEAM_UPDATE",
};

static int index_of(const char *const *names, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(names[i], name) == 0)
			return (int)i;
	fail_msg("unknown name %s", name);
	return -1;
}

static struct json *read_answers(void)
{
	FILE *f = fopen(SOURCE_DIR "/tests/unit/data/litellm_answers.json", "re");
	struct buf b = BUF_INIT(0);
	struct json *doc;
	uint8_t *to;
	size_t n;

	assert_non_null(f);
	do {
		assert_int_equal(buf_reserve(&b, 65536, &to), 0);
		n = fread(to, 1, 65536, f);
		b.len += n;
	} while (n > 0);
	fclose(f);
	doc = json_parse(buf_text(&b), b.len);
	buf_deinit(&b);
	assert_non_null(doc);
	return doc;
}

static struct litellm_answer judge(enum litellm_op op, long status, const char *body)
{
	struct litellm_answer a;

	litellm_judge(op, &(struct litellm_reply){ status, body, strlen(body) }, NULL, "", &a);
	return a;
}

/* Judges, checks the kind and, unless it is NULL, a part of the message. */
static void expect(enum litellm_op op, long status, const char *body, enum litellm_kind kind,
		   const char *words)
{
	struct litellm_answer a = judge(op, status, body);

	if (a.kind != kind)
		fail_msg("%s %ld %s: %s, not %s", op_names[op], status, body, kind_names[a.kind],
			 kind_names[kind]);
	if (words && !strstr(a.message, words))
		fail_msg("'%s' is not in '%s'", words, a.message);
	litellm_answer_deinit(&a);
}

static void check_recorded(const struct json *item)
{
	enum litellm_op op = (enum litellm_op)index_of(op_names, ARRAY_SIZE(op_names),
						       json_get_text(item, "op"));
	const char *body = json_get_text(item, "body");
	const char *kind = json_get_text(item, "kind");
	struct litellm_answer a;
	int64_t status;

	assert_true(json_get_int(item, "status", &status));
	a = judge(op, status, body);
	if (strcmp(kind_names[a.kind], kind) != 0)
		fail_msg("%s %s %s %ld: %s, not %s; %s", json_get_text(item, "litellm"),
			 json_get_text(item, "from"), op_names[op], (long)status,
			 kind_names[a.kind], kind, body);
	assert_true((a.kind == LITELLM_OK) == (*a.message == '\0'));
	assert_null(strstr(a.message, "placeholder"));
	assert_null(strstr(a.message, "00000000000000"));
	litellm_answer_deinit(&a);
}

static void test_each_recorded_answer_is_judged_as_people_would(void **state)
{
	struct json *doc = read_answers();

	(void)state;
	assert_true(json_len(doc) > 100);
	for (size_t i = 0; i < json_len(doc); i++)
		check_recorded(json_at(doc, i));
	json_free(doc);
}

static void test_trap_1_info_is_200_for_blocked_and_expired_keys(void **state)
{
	struct litellm_answer a;

	(void)state;
	a = judge(LITELLM_INFO, 200,
		  "{\"key\":\"" HASH "\",\"info\":{\"expires\":\"2020-01-01T00:00:00+00:00\","
		  "\"blocked\":true,\"key_alias\":\"a\",\"team_id\":\"t\",\"user_id\":\"u\","
		  "\"created_at\":\"2019-12-31T23:59:59.500000+00:00\","
		  "\"metadata\":{\"keybroker\":{\"install\":\"i\",\"intent\":\"j\"}}}}");
	assert_int_equal(a.kind, LITELLM_OK);
	assert_true(a.key.blocked);
	assert_int_equal(a.key.expires_at_ms, INT64_C(1577836800000));
	assert_int_equal(a.key.created_at_ms, INT64_C(1577836799500));
	assert_string_equal(a.key.hash, HASH);
	assert_string_equal(a.key.alias, "a");
	assert_string_equal(a.key.team_id, "t");
	assert_string_equal(a.key.user_id, "u");
	assert_string_equal(a.key.install, "i");
	assert_string_equal(a.key.intent, "j");
	litellm_answer_deinit(&a);
}

static void test_an_end_before_the_epoch_is_not_never(void **state)
{
	static const char *const ends[] = { "1970-01-01T00:00:00Z", "1969-12-31T23:59:59.999Z",
					    "0001-01-01T00:00:00+00:00" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		struct litellm_answer a;
		char body[256];

		(void)snprintf(body, sizeof(body),
			       "{\"key\":\"" HASH "\",\"info\":{\"expires\":\"%s\"}}", ends[i]);
		a = judge(LITELLM_INFO, 200, body);
		assert_int_equal(a.kind, LITELLM_OK);
		assert_int_equal(a.key.expires_at_ms, 1);
		litellm_answer_deinit(&a);
	}
}

static void test_a_key_without_our_metadata_is_nobodys(void **state)
{
	static const char *const metadata[] = {
		"null", "{}", "[]", "\"x\"", "{\"keybroker\":1}", "{\"keybroker\":{\"install\":3}}"
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(metadata); i++) {
		struct litellm_answer a;
		char body[256];

		(void)snprintf(body, sizeof(body),
			       "{\"key\":\"" HASH "\",\"info\":{\"expires\":null,\"blocked\":null,"
			       "\"key_alias\":null,\"metadata\":%s}}",
			       metadata[i]);
		a = judge(LITELLM_INFO, 200, body);
		assert_int_equal(a.kind, LITELLM_OK);
		assert_false(a.key.blocked);
		assert_int_equal(a.key.expires_at_ms, 0);
		assert_string_equal(a.key.install, "");
		assert_string_equal(a.key.alias, "");
		litellm_answer_deinit(&a);
	}
}

static void test_trap_2_only_a_body_that_proves_it_means_gone(void **state)
{
	static const char down[] = "{\"error\":{\"message\":\"Authentication Error, Can't reach "
				   "database server at `db:5432`\",\"type\":\"auth_error\"}}";
	static const char unknown[] = "{\"error\":{\"message\":\"Key not found.\",\"type\":"
				      "\"not_found_error\"}}";

	(void)state;
	for (long status = 400; status <= 404; status++) {
		expect(LITELLM_INFO, status, down, LITELLM_UNAVAILABLE, "reach database");
		expect(LITELLM_UPDATE, status, down, LITELLM_UNAVAILABLE, NULL);
		expect(LITELLM_DELETE, status, down, LITELLM_UNAVAILABLE, NULL);
		expect(LITELLM_TEAM_INFO, status, down, LITELLM_UNAVAILABLE, NULL);
	}
	expect(LITELLM_INFO, 404, unknown, LITELLM_GONE, "not found");
	expect(LITELLM_INFO, 500, unknown, LITELLM_UNAVAILABLE, NULL);
	expect(LITELLM_INFO, 400, unknown, LITELLM_REFUSED, NULL);
	expect(LITELLM_INFO, 404, "{\"detail\":\"Not Found\"}", LITELLM_REFUSED, "Not Found");
	expect(LITELLM_INFO, 404, "404 page not found\n", LITELLM_UNAVAILABLE, "not LiteLLM's");
	expect(LITELLM_DELETE, 404, "{}", LITELLM_UNAVAILABLE, NULL);
	/* a team that exists, with the database down */
	expect(LITELLM_TEAM_INFO, 404,
	       "{\"error\":{\"message\":\"{'message': 'Team not found, passed team id: t.'}\","
	       "\"type\":\"auth_error\",\"code\":\"404\"}}",
	       LITELLM_UNAVAILABLE, "Team not found, passed team id: t.");
	/* the same trouble in words that no recording has */
	expect(LITELLM_UPDATE, 400,
	       "{\"error\":{\"message\":\"Authentication Error, something else broke\","
	       "\"type\":\"auth_error\"}}",
	       LITELLM_UNAVAILABLE, "something else broke");
}

static void test_a_wrong_master_key_is_told_from_an_unknown_key(void **state)
{
	static const char wrong[] =
		"{\"error\":{\"message\":\"Authentication Error, Invalid proxy server token "
		"passed. Received API Key = sk-...0000, Key Hash (Token) =" HASH ". Unable to "
		"find token in cache or `LiteLLM_VerificationTokenTable`\","
		"\"type\":\"token_not_found_in_db\",\"param\":\"key\",\"code\":\"401\"}}";
	static const char unknown[] =
		"{\"error\":{\"message\":\"Authentication Error, Invalid proxy server token "
		"passed. key=" HASH ", not found in db. Create key via `/key/generate` call.\","
		"\"type\":\"token_not_found_in_db\",\"param\":\"key\",\"code\":\"401\"}}";

	(void)state;
	expect(LITELLM_BLOCK, 401, wrong, LITELLM_UNAUTHORIZED, NULL);
	expect(LITELLM_BLOCK, 401, unknown, LITELLM_GONE, NULL);
	expect(LITELLM_INFO, 401, unknown, LITELLM_UNAUTHORIZED, NULL);
	expect(LITELLM_DELETE, 401, wrong, LITELLM_UNAUTHORIZED, NULL);
}

static void test_traps_3_and_12_no_expiry_is_taken_from_a_mint(void **state)
{
	struct litellm_answer a;

	(void)state;
	a = judge(LITELLM_GENERATE, 200,
		  "{\"key\":\"sk-placeholder00000001\",\"token\":\"" HASH "\",\"key_alias\":\"x\","
		  "\"expires\":\"2030-01-01T00:00:00Z\"}");
	assert_int_equal(a.kind, LITELLM_OK);
	assert_int_equal(a.key.expires_at_ms, 0);
	assert_string_equal(a.key.alias, "");
	assert_string_equal(secret_text(a.chosen), "sk-placeholder00000001");
	litellm_answer_deinit(&a);
	assert_null(a.chosen);
}

static void test_an_expiry_that_is_missing_or_unreadable_is_not_never(void **state)
{
	(void)state;
	expect(LITELLM_INFO, 200, "{\"key\":\"" HASH "\",\"info\":{}}", LITELLM_UNAVAILABLE, NULL);
	expect(LITELLM_INFO, 200, "{\"key\":\"" HASH "\",\"info\":{\"expires\":\"soon\"}}",
	       LITELLM_UNAVAILABLE, NULL);
	expect(LITELLM_INFO, 200, "{\"key\":\"" HASH "\",\"info\":{\"expires\":17}}",
	       LITELLM_UNAVAILABLE, NULL);
	expect(LITELLM_INFO, 200, "{\"info\":null}", LITELLM_UNAVAILABLE, NULL);
}

static void test_traps_5_and_6_a_taken_name_is_an_outcome_of_its_own(void **state)
{
	static const char taken[] = "{\"error\":{\"message\":\"Key with alias 'x' already exists. "
				    "Unique key aliases across all keys are required.\",\"type\":"
				    "\"bad_request_error\",\"param\":\"key_alias\"}}";
	static const char race[] = "{\"error\":{\"message\":\"Unique constraint failed on the "
				   "fields: (`team_id`)\",\"type\":\"internal_server_error\"}}";

	(void)state;
	expect(LITELLM_GENERATE, 400, taken, LITELLM_EXISTS, "'x' already exists");
	expect(LITELLM_UPDATE, 400, taken, LITELLM_EXISTS, NULL);
	expect(LITELLM_TEAM_NEW, 500, race, LITELLM_EXISTS, NULL);
	expect(LITELLM_GENERATE, 500, race, LITELLM_EXISTS, NULL);
	expect(LITELLM_INFO, 500, race, LITELLM_UNAVAILABLE, NULL);
	expect(LITELLM_TEAM_NEW, 500, "Internal Server Error", LITELLM_UNAVAILABLE, NULL);
}

static void test_trap_10_a_deletion_must_name_one_key(void **state)
{
	(void)state;
	expect(LITELLM_DELETE, 200, "{\"deleted_keys\":[\"" HASH "\"]}", LITELLM_OK, NULL);
	expect(LITELLM_DELETE, 200, "{\"deleted_keys\":[]}", LITELLM_UNAVAILABLE, NULL);
	expect(LITELLM_DELETE, 404,
	       "{\"error\":{\"message\":\"{'error': 'No keys found'}\",\"type\":"
	       "\"internal_server_error\"}}",
	       LITELLM_GONE, "No keys found");
}

static void test_trap_14_a_team_is_found_by_its_exact_alias(void **state)
{
	static const char body[] = "{\"teams\":[{\"team_id\":\"1\",\"team_alias\":\"agents\"},"
				   "{\"team_id\":\"2\",\"team_alias\":\"Agents\"},"
				   "{\"team_id\":\"3\",\"team_alias\":\"agents-2\"},"
				   "{\"team_id\":\"4\",\"team_alias\":null}],\"total_pages\":3}";
	struct litellm_answer a;

	(void)state;
	litellm_judge(LITELLM_TEAM_FIND, &(struct litellm_reply){ 200, body, strlen(body) },
		      "agents", "", &a);
	assert_int_equal(a.kind, LITELLM_OK);
	assert_int_equal(a.n_teams, 1);
	assert_string_equal(a.teams[0].id, "1");
	assert_int_equal(a.total_pages, 3);
	litellm_answer_deinit(&a);
}

static void test_several_teams_of_one_alias_are_named_without_credentials(void **state)
{
	static const char body[] =
		"{\"teams\":[{\"team_id\":\"one\",\"team_alias\":\"agents\"},"
		"{\"team_id\":\"the-master/key\",\"team_alias\":\"agents\"},"
		"{\"team_id\":\"sk-placeholder00000001\",\"team_alias\":\"agents\"},"
		"{\"team_id\":\"a\\u202eb\\u001b[31m\",\"team_alias\":\"agents\"}],\"total_pages\":1}";
	struct litellm_answer a;

	(void)state;
	litellm_judge(LITELLM_TEAM_FIND, &(struct litellm_reply){ 200, body, strlen(body) },
		      "agents", "master/key", &a);
	assert_int_equal(a.kind, LITELLM_REFUSED);
	assert_int_equal(a.n_teams, 0);
	assert_string_equal(a.message,
			    "several teams upstream are called agents: say which with "
			    "LITELLM_TEAM_ID (team_id): one the-********** sk-*** a???b [31m");
	litellm_answer_deinit(&a);
}

static void test_a_team_that_no_list_has_is_proven_gone(void **state)
{
	struct litellm_answer a;

	(void)state;
	expect(LITELLM_TEAM_INFO, 200, "{\"teams\":[],\"total_pages\":0}", LITELLM_GONE, "no such");
	expect(LITELLM_TEAM_INFO, 200,
	       "{\"teams\":[{\"team_id\":\"1\"},{\"team_id\":\"2\"}],\"total_pages\":1}",
	       LITELLM_UNAVAILABLE, NULL);
	a = judge(LITELLM_TEAM_INFO, 200,
		  "{\"teams\":[{\"team_id\":\"1\",\"team_alias\":\"a\"}],\"total_pages\":1}");
	assert_int_equal(a.kind, LITELLM_OK);
	assert_string_equal(a.teams[0].alias, "a");
	litellm_answer_deinit(&a);
}

static void test_a_team_is_read_with_its_limits_and_mark(void **state)
{
	static const char team[] =
		"{\"team_id\":\"1\",\"data\":{\"team_id\":\"1\",\"team_alias\":\"a\",\"max_budget\":7,"
		"\"rpm_limit\":null,\"tpm_limit\":5000,\"budget_duration\":\"30d\",\"spend\":0.25,"
		"\"metadata\":{\"keybroker\":{\"install\":\"i\"}}}}";
	struct litellm_answer a = judge(LITELLM_TEAM_UPDATE, 200, team);

	(void)state;
	assert_int_equal(a.kind, LITELLM_OK);
	assert_int_equal(litellm_micros(a.teams[0].max_budget), 7000000);
	assert_int_equal(a.teams[0].rpm_limit, -1);
	assert_int_equal(a.teams[0].tpm_limit, 5000);
	assert_string_equal(a.teams[0].budget_duration, "30d");
	assert_int_equal(a.teams[0].spend_micros, 250000);
	assert_string_equal(a.teams[0].install, "i");
	litellm_answer_deinit(&a);
	expect(LITELLM_TEAM_UPDATE, 200, "{\"team_id\":\"1\"}", LITELLM_UNAVAILABLE, NULL);
	expect(LITELLM_TEAM_UPDATE, 404,
	       "{\"error\":{\"message\":\"{'error': 'Team not found, passed team_id=1'}\",\"type\":"
	       "\"internal_server_error\"}}",
	       LITELLM_UNAVAILABLE, "Team not found");
}

static void test_a_list_is_read_with_what_tells_our_keys(void **state)
{
	struct litellm_answer a;

	(void)state;
	a = judge(LITELLM_LIST, 200,
		  "{\"keys\":[{\"token\":\"" HASH "\",\"key_alias\":\"x\",\"expires\":null,"
		  "\"blocked\":null,\"created_at\":\"2026-11-22T01:41:37.669000Z\","
		  "\"metadata\":{\"keybroker\":{\"install\":\"i\",\"intent\":\"j\"}}},"
		  "{\"token\":\"" HASH "\",\"expires\":\"2026-11-22T02:00:00Z\"}],"
		  "\"total_count\":2,\"current_page\":1,\"total_pages\":1}");
	assert_int_equal(a.kind, LITELLM_OK);
	assert_int_equal(a.n_keys, 2);
	assert_string_equal(a.keys[0].intent, "j");
	assert_string_equal(a.keys[1].intent, "");
	litellm_answer_deinit(&a);
	expect(LITELLM_LIST, 200, "{\"keys\":[\"" HASH "\"],\"total_pages\":1}",
	       LITELLM_UNAVAILABLE, NULL);
	expect(LITELLM_LIST, 200, "{\"keys\":[]}", LITELLM_UNAVAILABLE, NULL);
}

static void test_forbidden_chosen_keys_are_told_from_other_refusals(void **state)
{
	static const char forbidden[] =
		"{\"error\":{\"message\":\"{'error': 'Custom API key values are disabled by your "
		"administrator. Keys must be auto-generated.'}\",\"type\":"
		"\"internal_server_error\",\"param\":\"None\",\"code\":\"403\"}}";

	(void)state;
	expect(LITELLM_GENERATE, 403, forbidden, LITELLM_FORBIDS_KEY, "must be auto-generated.");
	expect(LITELLM_GENERATE, 403,
	       "{\"detail\":{\"error\":\"Custom API key values are "
	       "disabled by your administrator.\"}}",
	       LITELLM_FORBIDS_KEY, NULL);
	expect(LITELLM_GENERATE, 403, "{\"detail\":{\"error\":\"team over its limit\"}}",
	       LITELLM_REFUSED, "team over its limit");
}

static void test_redirects_and_foreign_answers_are_not_believed(void **state)
{
	(void)state;
	expect(LITELLM_GENERATE, 307, "", LITELLM_REFUSED, "not followed");
	expect(LITELLM_INFO, 302, "{}", LITELLM_REFUSED, "HTTP 302");
	expect(LITELLM_GENERATE, 200, "<html>welcome</html>", LITELLM_UNAVAILABLE, "not LiteLLM's");
	expect(LITELLM_GENERATE, 200, "{}", LITELLM_UNAVAILABLE, NULL);
	expect(LITELLM_GENERATE, 200, "", LITELLM_UNAVAILABLE, NULL);
	expect(LITELLM_GENERATE, 204, "", LITELLM_UNAVAILABLE, NULL);
	expect(LITELLM_INFO, 401, "<h1>log in first</h1>", LITELLM_UNAVAILABLE, "log in first");
	expect(LITELLM_INFO, 502, "<html>Bad Gateway</html>", LITELLM_UNAVAILABLE, "HTTP 502");
	expect(LITELLM_INFO, 429, "{\"detail\":\"slow down\"}", LITELLM_UNAVAILABLE, "slow down");
	expect(LITELLM_INFO, 0, "", LITELLM_UNAVAILABLE, "no answer");
	expect(LITELLM_INFO, 418, "{\"error\":{}}", LITELLM_REFUSED, "418");
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
		cmocka_unit_test(test_each_recorded_answer_is_judged_as_people_would),
		cmocka_unit_test(test_trap_1_info_is_200_for_blocked_and_expired_keys),
		cmocka_unit_test(test_an_end_before_the_epoch_is_not_never),
		cmocka_unit_test(test_a_key_without_our_metadata_is_nobodys),
		cmocka_unit_test(test_trap_2_only_a_body_that_proves_it_means_gone),
		cmocka_unit_test(test_a_wrong_master_key_is_told_from_an_unknown_key),
		cmocka_unit_test(test_traps_3_and_12_no_expiry_is_taken_from_a_mint),
		cmocka_unit_test(test_an_expiry_that_is_missing_or_unreadable_is_not_never),
		cmocka_unit_test(test_traps_5_and_6_a_taken_name_is_an_outcome_of_its_own),
		cmocka_unit_test(test_trap_10_a_deletion_must_name_one_key),
		cmocka_unit_test(test_trap_14_a_team_is_found_by_its_exact_alias),
		cmocka_unit_test(test_several_teams_of_one_alias_are_named_without_credentials),
		cmocka_unit_test(test_a_team_that_no_list_has_is_proven_gone),
		cmocka_unit_test(test_a_team_is_read_with_its_limits_and_mark),
		cmocka_unit_test(test_a_list_is_read_with_what_tells_our_keys),
		cmocka_unit_test(test_forbidden_chosen_keys_are_told_from_other_refusals),
		cmocka_unit_test(test_redirects_and_foreign_answers_are_not_believed),
	};

	return cmocka_run_group_tests(tests, start, NULL);
}
