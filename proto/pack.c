/*
 * The packer: msgpack-c's, writing into a wiping buffer of the caller. Makes no decisions about
 * content and keeps nothing.
 */
#include "proto/message.h"

#include <msgpack/pack.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/crypt.h"
#include "base/utf8.h"

static int pack_write(void *data, const char *bytes, size_t n)
{
	return buf_append(data, bytes, n);
}

static msgpack_packer pack_into(struct buf *b)
{
	msgpack_packer p;

	msgpack_packer_init(&p, b, pack_write);
	return p;
}

int pack_map(struct buf *b, size_t n)
{
	msgpack_packer p = pack_into(b);

	return msgpack_pack_map(&p, n);
}

int pack_array(struct buf *b, size_t n)
{
	msgpack_packer p = pack_into(b);

	return msgpack_pack_array(&p, n);
}

int pack_nil(struct buf *b)
{
	msgpack_packer p = pack_into(b);

	return msgpack_pack_nil(&p);
}

int pack_bool(struct buf *b, bool v)
{
	msgpack_packer p = pack_into(b);

	return v ? msgpack_pack_true(&p) : msgpack_pack_false(&p);
}

int pack_int(struct buf *b, int64_t v)
{
	msgpack_packer p = pack_into(b);

	return msgpack_pack_int64(&p, v);
}

int pack_text_n(struct buf *b, const char *s, size_t n)
{
	msgpack_packer p = pack_into(b);
	int r = msgpack_pack_str(&p, n);

	return r < 0 || n == 0 ? r : msgpack_pack_str_body(&p, s, n);
}

int pack_text(struct buf *b, const char *s)
{
	size_t n = s ? strlen(s) : 0;
	char *clean;
	int r;

	if (!s)
		return pack_nil(b);
	if (utf8_is_good(s, n))
		return pack_text_n(b, s, n);
	clean = xstrdup(s);
	utf8_clean(clean);
	r = pack_text_n(b, clean, strlen(clean));
	crypt_wipe(clean, n);
	free(clean);
	return r;
}

/* [type, id, … */
static int pack_opening(struct buf *b, enum message_type type, uint32_t id)
{
	int r = pack_array(b, 4);

	if (r >= 0)
		r = pack_int(b, type);
	return r < 0 ? r : pack_int(b, id);
}

int pack_request(struct buf *b, uint32_t id, const char *method)
{
	int r = pack_opening(b, MESSAGE_REQUEST, id);

	if (r >= 0)
		r = pack_text(b, method);
	return r < 0 ? r : pack_array(b, 1);
}

int pack_result(struct buf *b, uint32_t id)
{
	int r = pack_opening(b, MESSAGE_REPLY, id);

	return r < 0 ? r : pack_nil(b);
}

static int pack_error_fields(struct buf *b, const char *code, const char *message,
			     int64_t retry_after_ms)
{
	int r = pack_map(b, retry_after_ms < 0 ? 2 : 3);

	if (r >= 0)
		r = pack_text(b, "code");
	if (r >= 0)
		r = pack_text(b, code);
	if (r >= 0)
		r = pack_text(b, "message");
	if (r >= 0)
		r = pack_text(b, message);
	if (r >= 0 && retry_after_ms >= 0)
		r = pack_text(b, "retry_after_ms");
	return r < 0 || retry_after_ms < 0 ? r : pack_int(b, retry_after_ms);
}

int pack_error(struct buf *b, uint32_t id, const char *code, const char *message,
	       int64_t retry_after_ms)
{
	size_t len = b->len;
	int r = pack_opening(b, MESSAGE_REPLY, id);

	if (r >= 0)
		r = pack_error_fields(b, code, message, retry_after_ms);
	if (r >= 0)
		r = pack_nil(b);
	/* half a reply must not stay in front of the next one */
	if (r < 0)
		b->len = len;
	return r;
}

int pack_notification(struct buf *b, const char *method)
{
	int r = pack_array(b, 3);

	if (r >= 0)
		r = pack_int(b, MESSAGE_NOTIFICATION);
	if (r >= 0)
		r = pack_text(b, method);
	return r < 0 ? r : pack_array(b, 1);
}
