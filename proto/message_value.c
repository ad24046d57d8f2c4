/* Reading the values of a message: typed access that takes NULL and what is absent alike. */
#include "proto/message.h"

#include <msgpack.h>
#include <string.h>

static const msgpack_object *value_object(const struct value *v)
{
	return (const msgpack_object *)v;
}

static bool value_is(const struct value *v, msgpack_object_type type)
{
	return v && value_object(v)->type == type;
}

enum value_type value_type(const struct value *v)
{
	static const enum value_type types[] = {
		[MSGPACK_OBJECT_BOOLEAN] = VALUE_BOOL,
		[MSGPACK_OBJECT_POSITIVE_INTEGER] = VALUE_INT,
		[MSGPACK_OBJECT_NEGATIVE_INTEGER] = VALUE_INT,
		[MSGPACK_OBJECT_STR] = VALUE_TEXT,
		[MSGPACK_OBJECT_ARRAY] = VALUE_ARRAY,
		[MSGPACK_OBJECT_MAP] = VALUE_MAP,
		[MSGPACK_OBJECT_BIN] = VALUE_BIN,
	};

	/* the walker lets no other type through */
	return v && value_object(v)->type < ARRAY_SIZE(types) ? types[value_object(v)->type]
							      : VALUE_NIL;
}

const struct value *value_get(const struct value *map, const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; value_type(map) == VALUE_MAP && i < value_len(map); i++) {
		const msgpack_object_kv *pair = &value_object(map)->via.map.ptr[i];

		if (pair->key.via.str.size == n && memcmp(pair->key.via.str.ptr, name, n) == 0)
			return (const struct value *)&pair->val;
	}
	return NULL;
}

size_t value_len(const struct value *v)
{
	switch (value_type(v)) {
	case VALUE_TEXT:
		return value_object(v)->via.str.size;
	case VALUE_BIN:
		return value_object(v)->via.bin.size;
	case VALUE_ARRAY:
		return value_object(v)->via.array.size;
	case VALUE_MAP:
		return value_object(v)->via.map.size;
	case VALUE_NIL:
	case VALUE_BOOL:
	case VALUE_INT:
		break;
	}
	return 0;
}

const struct value *value_at(const struct value *array, size_t index)
{
	if (value_type(array) != VALUE_ARRAY || index >= value_len(array))
		return NULL;
	return (const struct value *)&value_object(array)->via.array.ptr[index];
}

static const msgpack_object_kv *value_pair(const struct value *map, size_t index)
{
	if (value_type(map) != VALUE_MAP || index >= value_len(map))
		return NULL;
	return &value_object(map)->via.map.ptr[index];
}

const struct value *value_key_at(const struct value *map, size_t index)
{
	const msgpack_object_kv *pair = value_pair(map, index);

	return pair ? (const struct value *)&pair->key : NULL;
}

const struct value *value_value_at(const struct value *map, size_t index)
{
	const msgpack_object_kv *pair = value_pair(map, index);

	return pair ? (const struct value *)&pair->val : NULL;
}

bool value_bool(const struct value *v, bool otherwise)
{
	return value_is(v, MSGPACK_OBJECT_BOOLEAN) ? value_object(v)->via.boolean : otherwise;
}

bool value_int(const struct value *v, int64_t *ret)
{
	if (value_is(v, MSGPACK_OBJECT_POSITIVE_INTEGER) && value_object(v)->via.u64 <= INT64_MAX)
		*ret = (int64_t)value_object(v)->via.u64;
	else if (value_is(v, MSGPACK_OBJECT_NEGATIVE_INTEGER))
		*ret = value_object(v)->via.i64;
	else
		return false;
	return true;
}

/* The bytes behind a lead byte, and the smallest code point it may begin; 0: no lead byte. */
static size_t value_utf8_tail(uint8_t lead, uint32_t *ret_least)
{
	static const uint32_t least[] = { 0, 0x80, 0x800, 0x10000 };
	size_t tail = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;

	*ret_least = least[tail];
	return lead >= 0xc0 && lead < 0xf8 ? tail : 0;
}

/* UTF-8 without NUL: no overlong forms, no surrogates, nothing beyond U+10FFFF. */
static bool value_is_utf8(const uint8_t *s, size_t n)
{
	for (size_t i = 0; i < n;) {
		uint32_t least, code;

		if (s[i] > 0 && s[i] < 0x80) {
			i++;
			continue;
		}
		size_t tail = value_utf8_tail(s[i], &least);
		if (tail == 0 || tail >= n - i)
			return false;
		code = s[i] & (0x3fu >> tail);
		for (size_t k = 1; k <= tail; k++) {
			if ((s[i + k] & 0xc0) != 0x80)
				return false;
			code = code << 6 | (s[i + k] & 0x3fu);
		}
		if (code < least || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
			return false;
		i += tail + 1;
	}
	return true;
}

const char *value_text(const struct value *v)
{
	if (!value_is(v, MSGPACK_OBJECT_STR))
		return NULL;
	const msgpack_object_str *s = &value_object(v)->via.str;
	if (s->size == 0)
		return "";
	return value_is_utf8((const uint8_t *)s->ptr, s->size) ? s->ptr : NULL;
}
