/* `key`: hands the audit key out, to a file of its own or a pipe. */
#pragma once

#include "base/macros.h"

struct args;

/* The exit code. */
int key_write(const struct args *a) _must_check_;
