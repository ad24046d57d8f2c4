/*
 * Errors. Functions return `int`: 0 is success; negative is -errno, an unexpected failure that was
 * logged once where it arose; positive is an outcome that the function's own header documents and
 * that its caller handles.
 */
#pragma once

#include "base/macros.h"

/* Logs an unexpected failure where it arises and yields it unchanged. `r` is a negative errno. */
#define err_origin(r) err_origin_at((r), __FILE__, __LINE__, __func__)
int err_origin_at(int r, const char *file, int line, const char *function) _must_check_;
