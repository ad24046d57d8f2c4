/* Reading the values of a message: typed access that takes NULL and what is absent alike. */
#include "proto/message.h"

#include <msgpack.h>
#include <string.h>

#include "base/utf8.h"

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

const char *value_text(const struct value *v)
{
	if (!value_is(v, MSGPACK_OBJECT_STR))
		return NULL;
	const msgpack_object_str *s = &value_object(v)->via.str;
	if (s->size == 0)
		return "";
	return utf8_is_good(s->ptr, s->size) ? s->ptr : NULL;
}
