/* Short texts in arrays of fixed size. */
#pragma once

#include <stddef.h>
#include <string.h>

/* Copies what fits, NUL-terminated. snprintf("%s") does the same, ten times slower. */
static inline void text_copy(char *to, size_t size, const char *from)
{
	size_t n = strnlen(from, size - 1);

	memcpy(to, from, n);
	to[n] = '\0';
}
