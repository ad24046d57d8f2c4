/* Wiping memory for libcurl. It is called from curl's resolver thread too, and keeps no state. */
#include "io/http_memory.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"

void *http_memory_new(size_t n)
{
	return malloc(n);
}

void *http_memory_new_zero(size_t n, size_t size)
{
	return calloc(n, size);
}

/* realloc() might move the bytes and leave the old ones as they are. */
void *http_memory_resize(void *p, size_t n)
{
	void *fresh = malloc(n);

	if (!fresh)
		return NULL;
	if (p)
		memcpy(fresh, p, MIN_OF(n, malloc_usable_size(p)));
	http_memory_free(p);
	return fresh;
}

char *http_memory_copy(const char *text)
{
	return strdup(text);
}

void http_memory_free(void *p)
{
	if (p)
		explicit_bzero(p, malloc_usable_size(p));
	free(p);
}
