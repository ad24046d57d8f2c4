/*
 * MessagePack-RPC messages: the walker that checks a message's sizes and depth before anything is
 * allocated and finds its end, the reader on top of msgpack-c, and the packer, which writes into a
 * wiping buffer. Used by the daemon and by the C client.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/macros.h"

/* What a message may claim; a direction has one set. */
struct message_limits {
	size_t bytes;
	unsigned depth;
	unsigned nodes; /* every value counts, and each key and value of a map */
};
extern const struct message_limits message_request_limits; /* 16 KiB, depth 6, 256 nodes */
extern const struct message_limits message_reply_limits;   /* 64 KiB, depth 8, 4,096 nodes */

enum message_walk {
	MESSAGE_COMPLETE = 0,
	MESSAGE_INCOMPLETE = 1, /* more bytes are needed; nothing is wrong so far */
	MESSAGE_MALFORMED,	/* not a MessagePack-RPC message, an ext or float, a reserved byte,
				   trailing structure */
	MESSAGE_TOO_LARGE,	/* it claims more than a limit allows */
};

/*
 * Walks one message from the front of `data` without allocating. On MESSAGE_COMPLETE `ret_len` is
 * its length. Whatever the result, `ret_id` (may be NULL) is the request id if it could be read,
 * else -1: an error can be addressed to it.
 */
enum message_walk message_walk(const uint8_t *data, size_t n, const struct message_limits *limits,
			       size_t *ret_len, int64_t *ret_id);

/* How many values are packed here, one behind the other, those within others too. */
size_t message_values(const uint8_t *data, size_t n);

enum message_type { MESSAGE_REQUEST = 0, MESSAGE_REPLY = 1, MESSAGE_NOTIFICATION = 2 };

struct value;	/* one MessagePack value, borrowed from its message */
struct message; /* one unpacked message; owns its values, which point into its own copy of the bytes
		   (wiped) */

/* Unpacks exactly one walked message. -EBADMSG if it isn't a request, reply or notification;
 * -ENOMEM. Not logged. */
int message_read(struct message **ret, const uint8_t *data, size_t n) _must_check_;
void message_free(struct message *m);
DEFINE_CLEANUP(struct message, message)

enum message_type message_type(const struct message *m);
uint32_t message_id(const struct message *m);	     /* request, reply */
const char *message_method(const struct message *m); /* request, notification */
/* Request, notification: the one params map (an absent or nil one reads as an empty map). Reply:
 * error and result. */
const struct value *message_params(const struct message *m);
const struct value *message_error(const struct message *m);  /* NULL if nil */
const struct value *message_result(const struct message *m); /* NULL if nil */

/* --- reading values; all take NULL --- */
enum value_type { VALUE_NIL, VALUE_BOOL, VALUE_INT, VALUE_TEXT, VALUE_BIN, VALUE_ARRAY, VALUE_MAP };
enum value_type value_type(const struct value *v);
/* The member `name` of a map (its first), or NULL. */
const struct value *value_get(const struct value *map, const char *name);
size_t value_len(const struct value *v); /* array, map, text, bin */
const struct value *value_at(const struct value *array, size_t index);
/* Pair `index` of a map. */
const struct value *value_key_at(const struct value *map, size_t index);
const struct value *value_value_at(const struct value *map, size_t index);
bool value_bool(const struct value *v, bool otherwise);
bool value_int(const struct value *v, int64_t *ret);
/* Text without a NUL byte inside, NUL-terminated; NULL if it is anything else. */
const char *value_text(const struct value *v);

/* --- packing: each returns -ENOMEM or -ENOBUFS of the buffer. A map or array header is followed by
 * its members --- */
int pack_request(struct buf *b, uint32_t id,
		 const char *method) _must_check_;	  /* the params map follows */
int pack_result(struct buf *b, uint32_t id) _must_check_; /* the result follows */
/* A whole error reply; `retry_after_ms` < 0: none. */
int pack_error(struct buf *b, uint32_t id, const char *code, const char *message,
	       int64_t retry_after_ms) _must_check_;
int pack_notification(struct buf *b, const char *method) _must_check_; /* the params map follows */
int pack_map(struct buf *b, size_t n) _must_check_;
int pack_array(struct buf *b, size_t n) _must_check_;
int pack_nil(struct buf *b) _must_check_;
int pack_bool(struct buf *b, bool v) _must_check_;
int pack_int(struct buf *b, int64_t v) _must_check_;
/* NULL packs nil. What is not UTF-8, or is cut within a character, is packed as utf8_clean() has
 * it: a peer may refuse a whole message for it. */
int pack_text(struct buf *b, const char *s) _must_check_;
/* These bytes. */
int pack_text_n(struct buf *b, const char *s, size_t n) _must_check_;
