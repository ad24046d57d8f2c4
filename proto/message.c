/*
 * The reader: one message, unpacked by msgpack-c out of a copy that the message owns and wipes.
 * Texts are NUL-terminated in that copy, in place: the byte behind a text is the header of the next
 * value, which has been read by then, or the spare byte at the end.
 */
#include "proto/message.h"

#include <errno.h>
#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

struct message {
	msgpack_unpacked unpacked; /* its zone holds no bytes of the message but numbers */
	size_t n;
	uint8_t bytes[]; /* n, and one to spare */
};

/* The places of a message's parts in its outer array. */
enum { MESSAGE_AT_TYPE, MESSAGE_AT_ID, MESSAGE_AT_ERROR = 2, MESSAGE_AT_RESULT = 3 };

/* `struct value` is msgpack-c's object under a name that needs no msgpack.h. */
static const struct value *value_of(const msgpack_object *o)
{
	return (const struct value *)o;
}

/* Recursion is bounded: the message was walked, its depth is within the limit. */
static void message_terminate(struct message *m, const msgpack_object *o)
{
	if (o->type == MSGPACK_OBJECT_STR && o->via.str.size > 0) {
		/* an empty text is left out: msgpack-c gives it a stale pointer */
		size_t start = (size_t)((const uint8_t *)o->via.str.ptr - m->bytes);

		m->bytes[start + o->via.str.size] = '\0';
	} else if (o->type == MSGPACK_OBJECT_ARRAY) {
		for (uint32_t i = 0; i < o->via.array.size; i++)
			message_terminate(m, &o->via.array.ptr[i]);
	} else if (o->type == MSGPACK_OBJECT_MAP) {
		for (uint32_t i = 0; i < o->via.map.size; i++) {
			message_terminate(m, &o->via.map.ptr[i].key);
			message_terminate(m, &o->via.map.ptr[i].val);
		}
	}
}

int message_read(struct message **ret, const uint8_t *data, size_t n)
{
	size_t len = 0, offset = 0;

	/* msgpack-c believes what a header claims, so nothing gets to it that was not walked */
	if (message_walk(data, n, &message_reply_limits, &len, NULL) != MESSAGE_COMPLETE ||
	    len != n)
		return -EBADMSG;
	_cleanup_(message_freep) struct message *m = malloc(sizeof(*m) + n + 1);
	if (!m)
		return -ENOMEM;
	m->n = n;
	memcpy(m->bytes, data, n);
	m->bytes[n] = '\0';
	msgpack_unpacked_init(&m->unpacked);
	switch (msgpack_unpack_next(&m->unpacked, (const char *)m->bytes, n, &offset)) {
	case MSGPACK_UNPACK_SUCCESS:
		break;
	case MSGPACK_UNPACK_NOMEM_ERROR:
		return -ENOMEM;
	case MSGPACK_UNPACK_EXTRA_BYTES:
	case MSGPACK_UNPACK_CONTINUE:
	case MSGPACK_UNPACK_PARSE_ERROR:
		return -EBADMSG;
	}
	message_terminate(m, &m->unpacked.data);
	*ret = TAKE(m);
	return 0;
}

void message_free(struct message *m)
{
	if (!m)
		return;
	msgpack_unpacked_destroy(&m->unpacked);
	explicit_bzero(m->bytes, m->n);
	free(m);
}

static const msgpack_object *message_part(const struct message *m, size_t index)
{
	return &m->unpacked.data.via.array.ptr[index];
}

enum message_type message_type(const struct message *m)
{
	return (enum message_type)message_part(m, MESSAGE_AT_TYPE)->via.u64;
}

uint32_t message_id(const struct message *m)
{
	return (uint32_t)message_part(m, MESSAGE_AT_ID)->via.u64;
}

const char *message_method(const struct message *m)
{
	size_t at = message_type(m) == MESSAGE_NOTIFICATION ? 1 : 2;
	const char *method = value_text(value_of(message_part(m, at)));

	return method ? method : "";
}

const struct value *message_params(const struct message *m)
{
	size_t at = message_type(m) == MESSAGE_NOTIFICATION ? 2 : 3;

	return value_at(value_of(message_part(m, at)), 0);
}

static const struct value *message_outcome(const struct message *m, size_t at)
{
	const msgpack_object *o = message_part(m, at);

	return o->type == MSGPACK_OBJECT_NIL ? NULL : value_of(o);
}

const struct value *message_error(const struct message *m)
{
	return message_outcome(m, MESSAGE_AT_ERROR);
}

const struct value *message_result(const struct message *m)
{
	return message_outcome(m, MESSAGE_AT_RESULT);
}
