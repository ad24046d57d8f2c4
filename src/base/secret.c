/* Secrets in guarded memory: sodium_malloc() locks the pages, keeps them out of core dumps, wipes
 * on free. */
#include "base/secret.h"

#include <sodium.h>
#include <string.h>

struct secret {
	size_t len;
	char bytes[];
};

struct secret *secret_new_empty(size_t n)
{
	struct secret *s;

	if (n > SECRET_MAX || sodium_init() < 0)
		return NULL;
	/* sodium_malloc() puts the end of the allocation at a guard page, so the size must keep
	 * `len` aligned. */
	s = sodium_malloc((sizeof(*s) + n + 1 + sizeof(size_t) - 1) & ~(sizeof(size_t) - 1));
	if (!s)
		return NULL;
	s->len = n;
	memset(s->bytes, 0, n + 1);
	return s;
}

struct secret *secret_new(const void *data, size_t n)
{
	struct secret *s = secret_new_empty(n);

	if (s && n > 0)
		memcpy(s->bytes, data, n);
	return s;
}

struct secret *secret_copy(const struct secret *s)
{
	return secret_new(s->bytes, s->len);
}

void secret_free(struct secret *s)
{
	sodium_free(s);
}

const char *secret_text(const struct secret *s)
{
	return s->bytes;
}

void *secret_bytes(struct secret *s)
{
	return s->bytes;
}

size_t secret_len(const struct secret *s)
{
	return s->len;
}

bool secret_equal(const struct secret *a, const struct secret *b)
{
	return a->len == b->len && sodium_memcmp(a->bytes, b->bytes, a->len) == 0;
}
