/* Short texts in arrays of fixed size. */
#pragma once

#include <stddef.h>
#include <string.h>

/* Of the first `n` bytes of a text: how many to keep, so that no character of UTF-8 is halved. */
static inline size_t text_cut(const char *text, size_t n)
{
	size_t keep = strnlen(text, n);

	while (keep > 0 && n - keep < 3 && ((unsigned char)text[keep] & 0xc0) == 0x80)
		keep--;
	return keep;
}

/* Copies what fits, NUL-terminated. snprintf("%s") does nearly the same, ten times slower. */
static inline void text_copy(char *to, size_t size, const char *from)
{
	size_t n = text_cut(from, size - 1);

	memcpy(to, from, n);
	to[n] = '\0';
}
