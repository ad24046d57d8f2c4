/* The wiping buffer. Growth copies into fresh memory and wipes the old: realloc() would leave a
 * copy behind. */
#include "base/buf.h"

#include <errno.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUF_FIRST 256

static void buf_release(struct buf *b)
{
	if (b->data)
		sodium_memzero(b->data, b->cap);
	free(b->data);
}

/* Keeps one byte more than `need`, for the NUL of buf_text(). */
static int buf_grow(struct buf *b, size_t need)
{
	size_t max = b->max ? b->max : BUF_MAX;
	size_t cap = b->cap ? b->cap : BUF_FIRST;
	uint8_t *data;

	if (need > max)
		return -ENOBUFS;
	if (need < b->cap)
		return 0;
	while (cap <= need)
		cap *= 2;
	data = malloc(cap);
	if (!data)
		return -ENOMEM;
	if (b->len > 0)
		memcpy(data, b->data, b->len);
	buf_release(b);
	b->data = data;
	b->cap = cap;
	return 0;
}

int buf_reserve(struct buf *b, size_t n, uint8_t **ret)
{
	int r;

	if (n > BUF_MAX)
		return -ENOBUFS;
	r = buf_grow(b, b->len + n);
	if (r < 0)
		return r;
	*ret = b->data + b->len;
	return 0;
}

int buf_append(struct buf *b, const void *data, size_t n)
{
	uint8_t *to;
	int r = buf_reserve(b, n, &to);

	if (r < 0)
		return r;
	if (n > 0)
		memcpy(to, data, n);
	b->len += n;
	return 0;
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	uint8_t *to;
	int n, r;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		return -EINVAL;
	r = buf_reserve(b, (size_t)n, &to); /* there is room for a NUL behind it */
	if (r < 0)
		return r;
	va_start(ap, fmt);
	(void)vsnprintf((char *)to, (size_t)n + 1, fmt, ap); /* measured above */
	va_end(ap);
	b->len += (size_t)n;
	return 0;
}

void buf_consume(struct buf *b, size_t n)
{
	if (n > b->len)
		n = b->len;
	if (n == 0)
		return;
	memmove(b->data, b->data + n, b->len - n);
	sodium_memzero(b->data + b->len - n, n);
	b->len -= n;
}

const char *buf_text(struct buf *b)
{
	if (buf_grow(b, b->len) < 0)
		return NULL;
	b->data[b->len] = '\0';
	return (const char *)b->data;
}

void buf_deinit(struct buf *b)
{
	buf_release(b);
	*b = BUF_INIT(b->max);
}
