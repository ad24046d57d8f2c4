/*
 * A secret: bytes in guarded memory that is locked, left out of core dumps and wiped when freed
 * (sodium_malloc). Opaque, so that no format string can print it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/macros.h"

/* The longest secret that is taken, in bytes: a provider's key fits many times over. */
#define SECRET_MAX 4096

struct secret;

/* Copies `n` bytes; NULL if there is no memory or `n` is over SECRET_MAX. A NUL byte follows the
 * copy. */
struct secret *secret_new(const void *data, size_t n) _must_check_;
/* An empty secret of `n` zero bytes, for its maker to fill through secret_bytes(). */
struct secret *secret_new_empty(size_t n) _must_check_;
struct secret *secret_copy(const struct secret *s) _must_check_;
void secret_free(struct secret *s);
DEFINE_CLEANUP(struct secret, secret)

/* The bytes, NUL-terminated; valid as long as the secret. Never for a log or an error text. */
const char *secret_text(const struct secret *s);
void *secret_bytes(struct secret *s);
size_t secret_len(const struct secret *s);
/* In constant time for equal lengths. */
bool secret_equal(const struct secret *a, const struct secret *b);
