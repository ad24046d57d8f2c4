/* Messages: what is packed can be read, and what a peer claims never costs more than it sent. */
#include "test.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "proto/message.h"

static const struct message_limits *const requests = &message_request_limits;
static const struct message_limits *const replies = &message_reply_limits;

/* An exact heap copy, so that the sanitizer sees a read of one byte too many. */
static enum message_walk walk(const void *data, size_t n, const struct message_limits *limits,
			      int64_t *ret_id)
{
	uint8_t *copy = malloc(n ? n : 1);
	size_t len = 0;

	assert_non_null(copy);
	memcpy(copy, data, n);
	enum message_walk r = message_walk(copy, n, limits, &len, ret_id);
	free(copy);
	if (r == MESSAGE_COMPLETE)
		assert_true(len > 0 && len <= n);
	return r;
}

static void pack_sample(struct buf *b)
{
	assert_int_equal(pack_request(b, 4000000000u, "acquire"), 0);
	assert_int_equal(pack_map(b, 6), 0);
	assert_int_equal(pack_text(b, "profile"), 0);
	assert_int_equal(pack_text(b, "service"), 0);
	assert_int_equal(pack_text(b, "refreshable"), 0);
	assert_int_equal(pack_bool(b, false), 0);
	assert_int_equal(pack_text(b, "ttl_ms"), 0);
	assert_int_equal(pack_int(b, 900000), 0);
	assert_int_equal(pack_text(b, "less"), 0);
	assert_int_equal(pack_int(b, -70000), 0);
	assert_int_equal(pack_text(b, "list"), 0);
	assert_int_equal(pack_array(b, 2), 0);
	assert_int_equal(pack_text(b, ""), 0);
	assert_int_equal(pack_text(b, "z\xc3\xbcrich"), 0);
	assert_int_equal(pack_text(b, "nothing"), 0);
	assert_int_equal(pack_text(b, NULL), 0);
}

static void test_a_request_reads_as_it_was_packed(void **state)
{
	struct buf b = BUF_INIT(4096);
	_cleanup_(message_freep) struct message *m = NULL;
	int64_t i = 0;

	(void)state;
	pack_sample(&b);
	assert_int_equal(message_read(&m, b.data, b.len), 0);
	buf_deinit(&b);
	assert_int_equal(message_type(m), MESSAGE_REQUEST);
	assert_int_equal(message_id(m), 4000000000u);
	assert_string_equal(message_method(m), "acquire");
	const struct value *p = message_params(m);
	assert_string_equal(value_text(value_get(p, "profile")), "service");
	assert_false(value_bool(value_get(p, "refreshable"), true));
	assert_true(value_int(value_get(p, "ttl_ms"), &i) && i == 900000);
	assert_true(value_int(value_get(p, "less"), &i) && i == -70000);
	assert_string_equal(value_text(value_at(value_get(p, "list"), 0)), "");
	assert_string_equal(value_text(value_at(value_get(p, "list"), 1)), "z\xc3\xbcrich");
	assert_int_equal(value_type(value_get(p, "nothing")), VALUE_NIL);
	assert_int_equal(value_len(p), 6);
	assert_string_equal(value_text(value_key_at(p, 2)), "ttl_ms");
	assert_int_equal(value_type(value_value_at(p, 2)), VALUE_INT);
}

static void test_absent_and_other_types_read_as_nothing(void **state)
{
	static const uint8_t bytes[] = "\x94\x00\x01\xa1m\x91\x82\xa1"
				       "a\xa3x\0y\xa1"
				       "b\xa2\xff\xfe";
	_cleanup_(message_freep) struct message *m = NULL;
	int64_t i = 7;

	(void)state;
	assert_int_equal(message_read(&m, bytes, sizeof(bytes) - 1), 0);
	const struct value *p = message_params(m);
	assert_null(value_text(value_get(p, "a"))); /* a NUL inside */
	assert_null(value_text(value_get(p, "b"))); /* not UTF-8 */
	assert_int_equal(value_type(value_get(p, "b")), VALUE_TEXT);
	assert_null(value_get(p, "c"));
	assert_null(value_get(NULL, "c"));
	assert_null(value_at(p, 0));
	assert_null(value_key_at(p, 2));
	assert_null(value_value_at(value_get(p, "a"), 0));
	assert_false(value_int(value_get(p, "a"), &i));
	assert_int_equal(i, 7);
	assert_true(value_bool(NULL, true));
	assert_int_equal(value_len(NULL), 0);
}

static void test_utf8_is_checked(void **state)
{
	static const struct {
		const char *bytes;
		bool good;
	} rows[] = {
		{ "\xe2\x82\xac", true },
		{ "\xf0\x9f\x94\x91", true },
		{ "\xc0\x80", false },
		{ "\xed\xa0\x80", false },
		{ "\xf4\x90\x80\x80", false },
		{ "\xe2\x82", false },
		{ "\x80", false },
		{ "\xf8\x88\x80\x80\x80", false },
		{ "\xf4\x8f\xbf\xbf", true },
		{ "\xe0\x80\xaf", false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct buf b = BUF_INIT(256);
		_cleanup_(message_freep) struct message *m = NULL;

		assert_false(pack_array(&b, 4) || pack_int(&b, 0) || pack_int(&b, 1));
		assert_int_equal(pack_text_n(&b, rows[i].bytes, strlen(rows[i].bytes)), 0);
		assert_false(pack_array(&b, 1) || pack_nil(&b));
		assert_int_equal(message_read(&m, b.data, b.len), 0);
		assert_string_equal(message_method(m), rows[i].good ? rows[i].bytes : "");
		buf_deinit(&b);
	}
}

static void test_replies_and_notifications(void **state)
{
	struct buf b = BUF_INIT(4096);
	size_t len = 0;
	int64_t i = 0;

	(void)state;
	assert_int_equal(pack_error(&b, 9, "denied", "no rule", 1500), 0);
	size_t first = b.len;
	assert_int_equal(pack_result(&b, 10), 0);
	assert_int_equal(pack_map(&b, 0), 0);
	assert_int_equal(message_walk(b.data, b.len, replies, &len, NULL), MESSAGE_COMPLETE);
	assert_int_equal(len, first);
	_cleanup_(message_freep) struct message *error = NULL, *result = NULL, *note = NULL;
	assert_int_equal(message_read(&error, b.data, len), 0);
	assert_int_equal(message_read(&result, b.data + len, b.len - len), 0);
	assert_string_equal(value_text(value_get(message_error(error), "code")), "denied");
	assert_true(value_int(value_get(message_error(error), "retry_after_ms"), &i) && i == 1500);
	assert_null(message_result(error));
	assert_null(message_error(result));
	assert_int_equal(value_type(message_result(result)), VALUE_MAP);
	buf_consume(&b, b.len);
	assert_int_equal(pack_notification(&b, "rotated"), 0);
	assert_int_equal(pack_map(&b, 0), 0);
	assert_int_equal(message_read(&note, b.data, b.len), 0);
	assert_int_equal(message_type(note), MESSAGE_NOTIFICATION);
	assert_string_equal(message_method(note), "rotated");
	buf_deinit(&b);
}

static void test_an_error_that_does_not_fit_leaves_nothing(void **state)
{
	struct buf b = BUF_INIT(40);

	(void)state;
	assert_int_equal(pack_result(&b, 1), 0);
	size_t len = b.len;
	assert_int_equal(pack_error(&b, 2, "internal", "a text that is too long for it", -1),
			 -ENOBUFS);
	assert_int_equal(b.len, len);
	buf_deinit(&b);
}

/* Cut anywhere, it is incomplete and no more; with any byte more, the length stays the same. */
static void test_truncation_at_every_byte(void **state)
{
	struct buf b = BUF_INIT(4096);
	struct message *m = NULL;
	int64_t id;

	(void)state;
	pack_sample(&b);
	for (size_t n = 0; n < b.len; n++) {
		assert_int_equal(walk(b.data, n, requests, &id), MESSAGE_INCOMPLETE);
		assert_true(id == (n < 7 ? -1 : 4000000000));
		assert_int_equal(message_read(&m, b.data, n), -EBADMSG);
	}
	size_t len = 0, whole = b.len;
	assert_int_equal(pack_nil(&b), 0);
	assert_int_equal(message_walk(b.data, b.len, requests, &len, NULL), MESSAGE_COMPLETE);
	assert_int_equal(len, whole);
	assert_int_equal(message_read(&m, b.data, b.len), -EBADMSG);
	buf_deinit(&b);
}

/* Every single byte of a message replaced by every value: no crash, and what walks can be read. */
static void test_any_byte_may_be_wrong(void **state)
{
	struct buf b = BUF_INIT(4096);

	(void)state;
	pack_sample(&b);
	for (size_t at = 0; at < b.len; at++) {
		uint8_t good = b.data[at];

		for (unsigned v = 0; v < 256; v++) {
			struct message *m = NULL;
			size_t len = 0;

			b.data[at] = (uint8_t)v;
			if (message_walk(b.data, b.len, requests, &len, NULL) != MESSAGE_COMPLETE)
				continue;
			assert_int_equal(message_read(&m, b.data, len), 0);
			message_free(m);
		}
		b.data[at] = good;
	}
	buf_deinit(&b);
}

/* Headers that claim gigabytes: refused when they are read, and nothing was allocated for them. */
static void test_lying_headers_cost_nothing(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
	} rows[] = {
		{ "\xdd\xff\xff\xff\xff", 5 },
		{ "\xdf\xff\xff\xff\xff", 5 },
		{ "\x94\x00\x05\xdb\xff\xff\xff\xff", 8 },
		{ "\x94\x00\x05\xa1m\x91\xdf\x10\x00\x00\x00", 11 },
		{ "\x94\x00\x05\xa1m\x91\x81\xa1k\xdd\x0f\xff\xff\xff", 14 },
		{ "\x94\x00\x05\xa1m\x91\x81\xa1k\xc6\x00\x01\x00\x00", 14 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const uint8_t *bytes = (const uint8_t *)rows[i].bytes;
		struct message *m = NULL;
		size_t len, before = mallinfo2().uordblks;
		int64_t id;

		assert_int_equal(message_walk(bytes, rows[i].n, requests, &len, &id),
				 MESSAGE_TOO_LARGE);
		assert_int_equal(message_read(&m, bytes, rows[i].n), -EBADMSG);
		assert_int_equal(mallinfo2().uordblks, before);
		assert_int_equal(id, rows[i].n > 5 ? 5 : -1);
	}
}

/* A request of `n` bytes in all, most of them one text. */
static void pack_of_size(struct buf *b, size_t n)
{
	static char filler[70000];

	memset(filler, 'x', sizeof(filler));
	assert_int_equal(pack_request(b, 1, "m"), 0);
	assert_int_equal(pack_map(b, 1), 0);
	assert_int_equal(pack_text(b, "k"), 0);
	assert_int_equal(pack_text_n(b, filler, n - b->len - (n > 65540 ? 5 : 3)), 0);
	assert_int_equal(b->len, n);
}

static void test_the_byte_limit_is_exact(void **state)
{
	struct buf b = BUF_INIT(0);

	(void)state;
	pack_of_size(&b, requests->bytes);
	assert_int_equal(walk(b.data, b.len, requests, NULL), MESSAGE_COMPLETE);
	buf_consume(&b, b.len);
	pack_of_size(&b, requests->bytes + 1);
	/* known from the first bytes on, not when the limit is reached */
	assert_int_equal(walk(b.data, 12, requests, NULL), MESSAGE_TOO_LARGE);
	assert_int_equal(walk(b.data, b.len, requests, NULL), MESSAGE_TOO_LARGE);
	assert_int_equal(walk(b.data, b.len, replies, NULL), MESSAGE_COMPLETE);
	buf_deinit(&b);
}

/* Others refuse the whole message otherwise. */
static void test_what_is_packed_is_utf8(void **state)
{
	static const char *const rows[][2] = {
		{ "z\xc3\xbcrich", "z\xc3\xbcrich" },
		{ "z\xc3", "z" },
		{ "\xe2\x82", "" },
		{ "a\xff\x80z", "a??z" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct buf b = BUF_INIT(256);
		_cleanup_(message_freep) struct message *m = NULL;

		assert_int_equal(pack_request(&b, 1, rows[i][0]), 0);
		assert_int_equal(pack_nil(&b), 0);
		assert_int_equal(message_read(&m, b.data, b.len), 0);
		assert_string_equal(message_method(m), rows[i][1]);
		buf_deinit(&b);
	}
}

/* A full window that is still incomplete would make a reader wait for ever. */
static void test_a_full_window_is_never_incomplete(void **state)
{
	struct buf b = BUF_INIT(0);

	(void)state;
	assert_int_equal(pack_request(&b, 1, "m"), 0);
	assert_int_equal(pack_map(&b, 100), 0);
	for (int i = 0; i < 120 && b.len < requests->bytes; i++) {
		char text[160] = "";

		memset(text, 'k', sizeof(text) - 1);
		assert_int_equal(pack_text(&b, text), 0);
	}
	for (size_t n = b.len; n > 0; n--) {
		enum message_walk r = message_walk(b.data, n, &(struct message_limits){ n, 6, 256 },
						   &(size_t){ 0 }, NULL);
		assert_int_not_equal(r, MESSAGE_INCOMPLETE);
	}
	buf_deinit(&b);
}

static void pack_nested(struct buf *b, unsigned depth)
{
	assert_int_equal(pack_request(b, 1, "m"), 0);
	assert_int_equal(pack_map(b, 1), 0);
	assert_int_equal(pack_text(b, "k"), 0);
	for (unsigned i = 3; i < depth; i++)
		assert_int_equal(pack_array(b, 1), 0);
	assert_int_equal(pack_nil(b), 0);
}

static void test_the_depth_limit_is_exact(void **state)
{
	struct buf b = BUF_INIT(0);

	(void)state;
	pack_nested(&b, 6);
	assert_int_equal(walk(b.data, b.len, requests, NULL), MESSAGE_COMPLETE);
	buf_consume(&b, b.len);
	pack_nested(&b, 7);
	assert_int_equal(walk(b.data, b.len, requests, NULL), MESSAGE_TOO_LARGE);
	buf_consume(&b, b.len);
	pack_nested(&b, 9);
	assert_int_equal(walk(b.data, b.len, replies, NULL), MESSAGE_TOO_LARGE);
	buf_deinit(&b);
}

static void test_the_node_limit_is_exact(void **state)
{
	struct buf b = BUF_INIT(0);

	(void)state;
	for (size_t extra = 0; extra < 2; extra++) {
		/* outer array, type, id, method, params, map, key, array: 8 nodes */
		assert_int_equal(pack_request(&b, 1, "m"), 0);
		assert_int_equal(pack_map(&b, 1), 0);
		assert_int_equal(pack_text(&b, "k"), 0);
		assert_int_equal(pack_array(&b, requests->nodes - 8 + extra), 0);
		for (size_t i = 0; i < requests->nodes - 8 + extra; i++)
			assert_int_equal(pack_int(&b, 1), 0);
		assert_int_equal(walk(b.data, b.len, requests, NULL),
				 extra ? MESSAGE_TOO_LARGE : MESSAGE_COMPLETE);
		buf_consume(&b, b.len);
	}
	buf_deinit(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_request_reads_as_it_was_packed),
		cmocka_unit_test(test_absent_and_other_types_read_as_nothing),
		cmocka_unit_test(test_utf8_is_checked),
		cmocka_unit_test(test_what_is_packed_is_utf8),
		cmocka_unit_test(test_replies_and_notifications),
		cmocka_unit_test(test_an_error_that_does_not_fit_leaves_nothing),
		cmocka_unit_test(test_truncation_at_every_byte),
		cmocka_unit_test(test_any_byte_may_be_wrong),
		cmocka_unit_test(test_lying_headers_cost_nothing),
		cmocka_unit_test(test_the_byte_limit_is_exact),
		cmocka_unit_test(test_a_full_window_is_never_incomplete),
		cmocka_unit_test(test_the_depth_limit_is_exact),
		cmocka_unit_test(test_the_node_limit_is_exact),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
