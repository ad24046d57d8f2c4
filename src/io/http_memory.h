/*
 * The allocator that libcurl is given: as malloc, but all memory is wiped before it goes back. The
 * master key and freshly minted keys pass through curl's own buffers.
 */
#pragma once

#include <stddef.h>

void *http_memory_new(size_t n);
void *http_memory_new_zero(size_t n, size_t size);
void *http_memory_resize(void *p, size_t n);
char *http_memory_copy(const char *text);
void http_memory_free(void *p);
