/*
 * Fuzzes the walker and the reader: whatever the bytes are, what walks can be read, what is cut is
 * incomplete, and no value points out of its message.
 */
#include <stdlib.h>
#include <string.h>

#include "proto/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void fuzz_check(bool good)
{
	if (!good)
		abort();
}

static size_t fuzz_touch(const struct value *v)
{
	const char *text = value_text(v);
	size_t sum = text ? strlen(text) : value_len(v);
	int64_t i;

	fuzz_check(!text || strlen(text) == value_len(v));
	(void)value_int(v, &i); /* only that it reads nothing it should not */
	for (size_t k = 0; value_type(v) == VALUE_ARRAY && k < value_len(v); k++)
		sum += fuzz_touch(value_at(v, k));
	for (size_t k = 0; value_type(v) == VALUE_MAP && k < value_len(v); k++) {
		fuzz_check(value_type(value_key_at(v, k)) == VALUE_TEXT);
		sum += fuzz_touch(value_key_at(v, k)) + fuzz_touch(value_value_at(v, k));
	}
	return sum;
}

static void fuzz_limits(const uint8_t *data, size_t n, const struct message_limits *limits)
{
	_cleanup_(message_freep) struct message *m = NULL;
	size_t len = 0, cut_len;
	int64_t id = -2;
	enum message_walk r = message_walk(data, n, limits, &len, &id);

	fuzz_check(id >= -1 && id <= UINT32_MAX);
	fuzz_check(r != MESSAGE_INCOMPLETE || n < limits->bytes);
	if (r != MESSAGE_COMPLETE)
		return;
	fuzz_check(len <= n && len <= limits->bytes);
	fuzz_check(message_walk(data, len - 1, limits, &cut_len, NULL) == MESSAGE_INCOMPLETE);
	fuzz_check(message_read(&m, data, len) == 0);
	if (message_type(m) == MESSAGE_REPLY) {
		(void)fuzz_touch(message_error(m)); /* the sum only keeps the reads alive */
		(void)fuzz_touch(message_result(m));
	} else {
		fuzz_check(strlen(message_method(m)) <= 32);
		(void)fuzz_touch(message_params(m));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	fuzz_limits(data, n, &message_request_limits);
	fuzz_limits(data, n, &message_reply_limits);
	return 0;
}
