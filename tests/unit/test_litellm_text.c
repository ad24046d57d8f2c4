/* What of upstream's words reaches people, and that no credential does (trap 15). */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "core/litellm_parts.h"

#define HASH "00000000000000a100000000000000a100000000000000a100000000000000a1"

static void check_redacted(const char *before, const char *after)
{
	char *text = xstrdup(before);

	litellm_redact(text);
	assert_string_equal(text, after);
	free(text);
}

static void test_keys_and_hashes_are_starred(void **state)
{
	(void)state;
	check_redacted("User Key=sk-placeholder-00000000001", "User Key=***");
	check_redacted("key sk-placeholder00000001, again sk-b2_c-d.", "key sk-***, again sk-***");
	check_redacted("key=" HASH ", not found", "key=***, not found");
	check_redacted(HASH HASH "x", "***x");
	check_redacted("(Token) =" HASH ".", "(Token) =***.");
	check_redacted("param 'sk-placeholder00000001'", "param 'sk-***'");
	check_redacted("\"xsk-placeholder0000000001\"", "\"xsk-***\"");
}

static void test_the_last_characters_of_a_key_are_starred_too(void **state)
{
	(void)state;
	check_redacted("Received API Key = sk-...A1b2, Key", "Received API Key = ***, Key");
	check_redacted("Received API Key = sk-..., Key", "Received API Key = ***, Key");
	check_redacted("the key sk-...A1b2 expired", "the key sk-*** expired");
	check_redacted("sk-ab", "sk-**");
}

static void test_keys_in_any_spelling_are_starred(void **state)
{
	(void)state;
	check_redacted("a key sk%2Dplaceholder%2d0001 b", "a key sk%2D*** b");
	check_redacted("a key sk&#45;placeholder&#x2D;0001 b", "a key sk&#45;*** b");
	check_redacted("a key sk\\u002dplaceholder\\\\u002d0001 b", "a key sk\\u002d*** b");
	check_redacted("\\\\sk-placeholder", "\\\\sk-***");
	check_redacted("a risk%2Dfree task&#45;force", "a risk%2Dfree task&#45;force");
}

static void check_hidden(const char *before, const char *secret, const char *after)
{
	char *text = xstrdup(before);

	litellm_hide(text, secret);
	assert_string_equal(text, after);
	free(text);
}

#define MASTER "p4ss&w/\"s\\t<9"

static void test_the_master_key_is_hidden_in_any_spelling(void **state)
{
	static const char *const spellings[] = {
		MASTER,
		/* JSON, its like in Go, and JSON in JSON in JSON */
		"p4ss&w/\\\"s\\\\t<9",
		"p4ss\\u0026w\\/\\\"s\\\\t\\u003c9",
		"p4ss&w/\\\\\\\\\\\\\\\"s\\\\\\\\\\\\\\\\t<9",
		"p4ss\\\\\\u0026w/\\\\\\\"s\\\\\\\\t\\\\u003C9",
		"\\u0070\\u0034\\u0073\\u0073\\u0026\\u0077\\u002f\\u0022\\u0073\\u005c\\u0074\\u003c\\u0039",
		/* Python's repr, twice */
		"p4ss\\x26w/\\\\\"s\\\\\\\\t<9",
		/* HTML, named and in numbers, and its source in JSON */
		"p4ss&amp;w/&quot;s\\t&lt;9",
		"p4ss&#38;w&#47;&#x22;s&#x5C;t&#X3c;&#00057;",
		"p4ss&amp;amp;w/&amp;quot;s\\t&amp;lt;9",
		"p4ss\\u0026amp;w/\\u0026quot;s\\\\t\\u0026lt;9",
		/* URLs, once and twice */
		"p4ss%26w%2F%22s%5Ct%3C9",
		"p4ss%5Cu0026w%5C/%5C%22s%5C%5Ct%5Cu003c9",
		"p4ss%2526w%252f%2522s%255ct%253c9",
	};
	char before[256], after[256];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(spellings); i++) {
		(void)snprintf(before, sizeof(before), "a %s9 %s b", spellings[i], spellings[i]);
		(void)snprintf(after, sizeof(after), "a %s9 %s b", spellings[i], spellings[i]);
		memset(after + 2, '*', strlen(spellings[i]));
		memset(after + 4 + strlen(spellings[i]), '*', strlen(spellings[i]));
		check_hidden(before, MASTER, after);
	}
}

static void test_a_master_key_that_looks_escaped_is_hidden_too(void **state)
{
	(void)state;
	check_hidden("a%2541&amp;amp;b", "a%41&amp;b", "****************");
	check_hidden("x a%41&amp;b x", "a%41&amp;b", "x ********** x");
	check_hidden("key%25 key%41", "key%", "****** ****41");
	check_hidden("a\\u0041 a\\\\u0041", "a\\u0041", "******* ********");
}

static void test_a_part_that_tells_something_is_hidden_where_it_is_cut(void **state)
{
	(void)state;
	check_hidden("a 0123...", "0123456789abcdef", "a ****...");
	check_hidden("a 0123****cdef", "0123456789abcdef", "a ********cdef");
	check_hidden("a 0123\xe2\x80\xa6", "0123456789abcdef", "a ****\xe2\x80\xa6");
	check_hidden("a 01234\\", "0123456789abcdef", "a *****\\");
	check_hidden("a 012345678, b", "0123456789abcdef", "a *********, b");
	check_hidden("a 012... 01234567, 0123 b", "0123456789abcdef", "a 012... 01234567, 0123 b");
	check_hidden("anything", "", "anything");
}

/* AddressSanitizer's strict_string_checks reads each string to its end, from each place. */
#ifdef __SANITIZE_ADDRESS__
#define LONG_RUN ((size_t)4 << 10)
#else
#define LONG_RUN ((size_t)1 << 20)
#endif

/* This takes hours if the work grows with the square of the text. */
static void test_a_long_run_of_escapes_is_read_once(void **state)
{
	static const char *const fills[] = { "\\", "%25", "amp;", "%5C" };
	size_t size = LONG_RUN, n;
	char *text = xcalloc(size + 1, 1);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(fills); i++) {
		text[0] = '&';
		n = strlen(fills[i]);
		for (size_t at = 1; at < size; at++)
			text[at] = fills[i][at % n];
		litellm_hide(text, "pppppppppppppppppppppppppppppppppppq");
		litellm_redact(text);
		assert_int_equal(text[0], '&');
	}
	free(text);
}

static void test_what_was_sent_is_starred_whatever_it_looks_like(void **state)
{
	(void)state;
	check_redacted("expected. Received=a+strange/secret=, expected to start with 'sk-'.",
		       "expected. Received=***, expected to start with 'sk-'.");
	check_redacted("must start with 'sk-'. Received: no-p****efix",
		       "must start with 'sk-'. Received: ***");
	check_redacted("Bearer abc.def", "Bearer ***");
	check_redacted("Ensure Key has `Bearer ` prefix. Passed in: hunter2",
		       "Ensure Key has `Bearer ` prefix. Passed in: ***");
}

static void test_ordinary_words_stay(void **state)
{
	static const char *const texts[] = {
		"",
		"an ask-bot on disk-1 took a risk-free task-force",
		"expected to start with 'sk-'.",
		"max_budget must be a non-negative finite number. Received: -1.0",
		"Team not found, passed team id: keybroker-00112233445566778899aabbccddeeff.",
		"deadbeef 00112233-4455-6677-8899-aabbccddeeff",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		check_redacted(texts[i], texts[i]);
}

static void check_message(long status, const char *body, const char *message)
{
	struct litellm_answer a;

	litellm_judge(LITELLM_GENERATE, &(struct litellm_reply){ status, body, strlen(body) }, NULL,
		      "", &a);
	assert_string_equal(a.message, message);
	litellm_answer_deinit(&a);
}

static void test_each_shape_of_error_yields_its_words(void **state)
{
	(void)state;
	check_message(400, "{\"error\":{\"message\":\"no such budget\"}}", "no such budget");
	check_message(400, "{\"error\":{\"message\":\"{'error': 'No \\\\'such\\\\' thing'}\"}}",
		      "No 'such' thing");
	check_message(400, "{\"error\":{\"message\":\"{'error': \\\"it's 'x'\\\"}\"}}", "it's 'x'");
	check_message(400, "{\"error\":{\"message\":\"{'error': 'cut off\"}}",
		      "{'error': 'cut off");
	check_message(400, "{\"error\":{\"message\":{\"error\":\"an object\"}}}", "an object");
	check_message(403, "{\"detail\":\"No.\"}", "No.");
	check_message(403, "{\"detail\":{\"error\":\"Not you.\"}}", "Not you.");
	check_message(
		422,
		"{\"detail\":[{\"loc\":[\"body\",\"models\"],\"msg\":\"Not a list\","
		"\"input\":\"sk-placeholder00000001\"},{\"loc\":[\"body\",12],\"msg\":\"x\"}]}",
		"body.models: Not a list; body: x");
	check_message(422, "{\"detail\":[]}", "HTTP 422 without a reason");
	check_message(422, "{\"detail\":[1,{}]}", "not valid; not valid");
	check_message(500, "Internal Server Error", "Internal Server Error");
}

static void test_control_characters_and_broken_utf8_do_not_get_through(void **state)
{
	(void)state;
	check_message(400, "{\"error\":{\"message\":\"a\\nb\\u001b[31mc\\u007f\\td\"}}",
		      "a b [31mc  d");
	check_message(400, "{\"error\":{\"message\":\"\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80\"}}",
		      "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80");
	check_message(400, "{\"error\":{\"message\":\"x\\u0085y\"}}", "x??y");
	check_message(400, "{\"error\":{\"message\":\"a\\u202eb\\u200bc\\u2066d\\ufeffe\"}}",
		      "a???b???c???d???e");
	check_message(502, "\xff\xfe\xc0\xaf\xed\xa0\x80",
		      "the answer (HTTP 502) is not LiteLLM's: ???????");
}

static void test_a_long_message_is_cut_between_characters(void **state)
{
	struct litellm_answer a;
	char body[4096];
	size_t n = (size_t)snprintf(body, sizeof(body), "{\"error\":{\"message\":\"x");

	(void)state;
	for (int i = 0; i < 600; i++)
		n += (size_t)snprintf(body + n, sizeof(body) - n, "\xc3\xa4");
	n += (size_t)snprintf(body + n, sizeof(body) - n, "\"}}");
	litellm_judge(LITELLM_GENERATE, &(struct litellm_reply){ 400, body, n }, NULL, "", &a);
	assert_int_equal(strlen(a.message), LITELLM_MESSAGE_MAX - 1);
	assert_memory_equal(a.message + LITELLM_MESSAGE_MAX - 3, "\xc3\xa4", 2);
	litellm_answer_deinit(&a);
}

/* Cut first, half of a hash would be left that looks like any other number. */
static void test_a_credential_at_the_cut_is_starred(void **state)
{
	struct litellm_answer a;
	char body[4096];
	size_t n;

	(void)state;
	n = (size_t)snprintf(body, sizeof(body), "{\"error\":{\"message\":\"%0480d " HASH "\"}}",
			     0);
	memset(body + 21, '-', 480);
	litellm_judge(LITELLM_GENERATE, &(struct litellm_reply){ 400, body, n }, NULL, "", &a);
	assert_null(strstr(a.message, "00a1"));
	assert_non_null(strstr(a.message, "- ***"));
	litellm_answer_deinit(&a);
}

static void test_a_nul_byte_hides_nothing(void **state)
{
	static const char body[] = "oops\0sk-placeholder00000001";
	struct litellm_answer a;

	(void)state;
	litellm_judge(LITELLM_INFO, &(struct litellm_reply){ 500, body, sizeof(body) - 1 }, NULL,
		      "", &a);
	assert_string_equal(a.message, "the answer (HTTP 500) is not LiteLLM's: oops sk-***");
	litellm_answer_deinit(&a);
}

static int start(void **state)
{
	(void)state;
	json_init();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys_and_hashes_are_starred),
		cmocka_unit_test(test_the_last_characters_of_a_key_are_starred_too),
		cmocka_unit_test(test_keys_in_any_spelling_are_starred),
		cmocka_unit_test(test_the_master_key_is_hidden_in_any_spelling),
		cmocka_unit_test(test_a_master_key_that_looks_escaped_is_hidden_too),
		cmocka_unit_test(test_a_part_that_tells_something_is_hidden_where_it_is_cut),
		cmocka_unit_test(test_a_long_run_of_escapes_is_read_once),
		cmocka_unit_test(test_what_was_sent_is_starred_whatever_it_looks_like),
		cmocka_unit_test(test_ordinary_words_stay),
		cmocka_unit_test(test_each_shape_of_error_yields_its_words),
		cmocka_unit_test(test_control_characters_and_broken_utf8_do_not_get_through),
		cmocka_unit_test(test_a_long_message_is_cut_between_characters),
		cmocka_unit_test(test_a_credential_at_the_cut_is_starred),
		cmocka_unit_test(test_a_nul_byte_hides_nothing),
	};

	return cmocka_run_group_tests(tests, start, NULL);
}
