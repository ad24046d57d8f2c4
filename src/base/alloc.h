/*
 * Allocation that ends the process when memory is gone, for core, io, daemon and cli, whose small
 * allocations have no sensible way to go on. base, proto and clients/c return -ENOMEM instead and
 * must not use these.
 */
#pragma once

#include <stddef.h>
#include <stdlib.h>

#include "base/macros.h"

void *xcalloc(size_t n, size_t size) _must_check_;
void *xrealloc(void *p, size_t n, size_t size) _must_check_;
/* NULL stays NULL. */
char *xstrdup(const char *s) _must_check_;
char *xasprintf(const char *fmt, ...) _printf_(1, 2) _must_check_;

static inline void freep(void *p)
{
	free(*(void **)p);
	*(void **)p = NULL;
}
