/*
 * A growing byte buffer with a limit, which wipes all memory that it lets go. For everything that
 * may hold a secret on its way: frames, HTTP bodies.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

struct buf {
	uint8_t *data;
	size_t len;
	size_t cap;
	size_t max; /* 0: BUF_MAX */
};

#define BUF_MAX ((size_t)16 << 20)
#define BUF_INIT(limit) ((struct buf){ .max = (limit) })

/* -ENOMEM, or -ENOBUFS if `len + n` would pass the limit; then nothing has changed. */
int buf_append(struct buf *b, const void *data, size_t n) _must_check_;
/* Formats text at the end; the errors of buf_append(). */
int buf_printf(struct buf *b, const char *fmt, ...) _printf_(2, 3) _must_check_;
/* Makes room for `n` more bytes and yields where they go; the caller adds to `len` what it used. */
int buf_reserve(struct buf *b, size_t n, uint8_t **ret) _must_check_;
/* Removes `n` bytes from the front. */
void buf_consume(struct buf *b, size_t n);
/* The bytes as a C string: a NUL is kept behind them. "" for an empty buffer; NULL without memory.
 */
const char *buf_text(struct buf *b);
/* Wipes and frees; the buffer is empty and usable again. */
void buf_deinit(struct buf *b);
