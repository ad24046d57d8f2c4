/* The wire vectors, which bind the codec of every language, against this one. */
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "proto/message.h"

static const char *const walk_names[] = {
	[MESSAGE_COMPLETE] = "complete",
	[MESSAGE_INCOMPLETE] = "incomplete",
	[MESSAGE_MALFORMED] = "malformed",
	[MESSAGE_TOO_LARGE] = "too_large",
};

static struct json *read_vectors(const char *name)
{
	_cleanup_(freep) char *text = NULL;
	char path[512];
	size_t n = 0;

	(void)snprintf(path, sizeof(path), SOURCE_DIR "/proto/vectors/%s", name);
	FILE *f = fopen(path, "re");
	assert_non_null(f);
	assert_true(getdelim(&text, &n, '\0', f) > 0);
	(void)fclose(f);
	struct json *doc = json_parse(text, strlen(text));
	assert_non_null(doc);
	return doc;
}

/* The bytes of `hex`, in exactly as much memory as they need. */
static uint8_t *read_hex(const char *hex, size_t *ret_n)
{
	size_t n = strlen(hex) / 2;
	uint8_t *bytes = malloc(n ? n : 1);

	assert_non_null(bytes);
	for (size_t i = 0; i < n; i++) {
		char digits[3] = { hex[2 * i], hex[2 * i + 1], '\0' };

		bytes[i] = (uint8_t)strtoul(digits, NULL, 16);
	}
	*ret_n = n;
	return bytes;
}

/* A value as compact JSON; the vectors have no text that needs escapes. */
static void render(struct buf *b, const struct value *v)
{
	int64_t i = 0;
	int r = 0;

	switch (value_type(v)) {
	case VALUE_BIN:
	case VALUE_NIL:
		r = buf_printf(b, "null");
		break;
	case VALUE_BOOL:
		r = buf_printf(b, value_bool(v, false) ? "true" : "false");
		break;
	case VALUE_INT:
		assert_true(value_int(v, &i));
		r = buf_printf(b, "%lld", (long long)i);
		break;
	case VALUE_TEXT:
		r = buf_printf(b, "\"%s\"", value_text(v));
		break;
	case VALUE_ARRAY:
		for (size_t k = 0; k < value_len(v); k++) {
			assert_int_equal(buf_printf(b, k ? "," : "["), 0);
			render(b, value_at(v, k));
		}
		r = buf_printf(b, value_len(v) ? "]" : "[]");
		break;
	case VALUE_MAP:
		for (size_t k = 0; k < value_len(v); k++) {
			assert_int_equal(buf_printf(b, k ? "," : "{"), 0);
			render(b, value_key_at(v, k));
			assert_int_equal(buf_printf(b, ":"), 0);
			render(b, value_value_at(v, k));
		}
		r = buf_printf(b, value_len(v) ? "}" : "{}");
		break;
	}
	assert_int_equal(r, 0);
}

static void repack(struct buf *b, const struct value *v)
{
	int64_t i = 0;
	int r = 0;

	switch (value_type(v)) {
	case VALUE_BIN:
	case VALUE_NIL:
		r = pack_nil(b);
		break;
	case VALUE_BOOL:
		r = pack_bool(b, value_bool(v, false));
		break;
	case VALUE_INT:
		assert_true(value_int(v, &i));
		r = pack_int(b, i);
		break;
	case VALUE_TEXT:
		r = pack_text(b, value_text(v));
		break;
	case VALUE_ARRAY:
		r = pack_array(b, value_len(v));
		for (size_t k = 0; k < value_len(v); k++)
			repack(b, value_at(v, k));
		break;
	case VALUE_MAP:
		r = pack_map(b, value_len(v));
		for (size_t k = 0; k < value_len(v); k++) {
			repack(b, value_key_at(v, k));
			repack(b, value_value_at(v, k));
		}
		break;
	}
	assert_int_equal(r, 0);
}

static void check_part(const struct json *expected, const struct value *v)
{
	struct buf b = BUF_INIT(0);

	if (json_is_null(expected)) {
		assert_true(!v || value_type(v) == VALUE_NIL);
		return;
	}
	char *text = json_dump(expected);
	/* absent params and nil read as an empty map */
	if (value_type(v) == VALUE_NIL)
		assert_int_equal(buf_printf(&b, "{}"), 0);
	else
		render(&b, v);
	assert_string_equal(buf_text(&b), text);
	json_text_free(text);
	buf_deinit(&b);
}

static void check_meaning(const struct json *expected, const struct message *m)
{
	static const char *const types[] = { "request", "reply", "notification" };
	int64_t id = 0;

	assert_string_equal(json_get_text(expected, "type"), types[message_type(m)]);
	if (json_get_int(expected, "id", &id))
		assert_int_equal(message_id(m), id);
	if (message_type(m) == MESSAGE_REPLY) {
		check_part(json_get(expected, "error"), message_error(m));
		check_part(json_get(expected, "result"), message_result(m));
	} else {
		assert_string_equal(message_method(m), json_get_text(expected, "method"));
		check_part(json_get(expected, "params"), message_params(m));
	}
}

static void check_packing(const struct message *m, const uint8_t *bytes, size_t n)
{
	struct buf b = BUF_INIT(0);

	if (message_type(m) == MESSAGE_REQUEST) {
		assert_int_equal(pack_request(&b, message_id(m), message_method(m)), 0);
		repack(&b, message_params(m));
	} else if (message_type(m) == MESSAGE_NOTIFICATION) {
		assert_int_equal(pack_notification(&b, message_method(m)), 0);
		repack(&b, message_params(m));
	} else if (message_error(m)) {
		const struct value *e = message_error(m);
		int64_t after = -1;

		(void)value_int(value_get(e, "retry_after_ms"), &after); /* may be absent */
		assert_int_equal(pack_error(&b, message_id(m), value_text(value_get(e, "code")),
					    value_text(value_get(e, "message")), after),
				 0);
	} else {
		assert_int_equal(pack_result(&b, message_id(m)), 0);
		repack(&b, message_result(m));
	}
	assert_int_equal(b.len, n);
	assert_memory_equal(b.data, bytes, n);
	buf_deinit(&b);
}

static void check_vector(const struct json *vector)
{
	bool request = strcmp(json_get_text(vector, "limits"), "request") == 0;
	int64_t id = -1, expected_id = -1, length = 0;
	size_t n, len = 0;
	_cleanup_(freep) uint8_t *bytes = read_hex(json_get_text(vector, "hex"), &n);
	_cleanup_(message_freep) struct message *m = NULL;
	enum message_walk r = message_walk(
		bytes, n, request ? &message_request_limits : &message_reply_limits, &len, &id);

	(void)json_get_int(vector, "id", &expected_id); /* absent: -1 stays */
	if (strcmp(walk_names[r], json_get_text(vector, "walk")) != 0 || id != expected_id)
		fail_msg("%s: %s, id %lld", json_get_text(vector, "name"), walk_names[r],
			 (long long)id);
	if (r != MESSAGE_COMPLETE) {
		/* the reader checks again, against the limits of replies: some of these pass */
		assert_true(message_read(&m, bytes, n) == -EBADMSG || r == MESSAGE_TOO_LARGE);
		return;
	}
	assert_true(json_get_int(vector, "length", &length));
	assert_int_equal(len, length);
	assert_int_equal(message_read(&m, bytes, len), 0);
	check_meaning(json_get(vector, "message"), m);
	if (json_get_bool(vector, "canonical", false))
		check_packing(m, bytes, len);
}

static void check_file(const char *name, size_t at_least)
{
	_cleanup_(json_freep) struct json *doc = read_vectors(name);
	const struct json *vectors = json_get(doc, "vectors");

	assert_true(json_len(vectors) >= at_least);
	for (size_t i = 0; i < json_len(vectors); i++)
		check_vector(json_at(vectors, i));
}

static void test_valid_messages(void **state)
{
	(void)state;
	check_file("valid.json", 20);
}

static void test_malformed_messages(void **state)
{
	(void)state;
	check_file("malformed.json", 40);
}

static void test_cut_and_lying_messages(void **state)
{
	(void)state;
	check_file("limits.json", 25);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_valid_messages),
		cmocka_unit_test(test_malformed_messages),
		cmocka_unit_test(test_cut_and_lying_messages),
	};

	json_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
