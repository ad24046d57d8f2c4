/* `verify --export`: an export and the audit key, and nothing else. */
#pragma once

#include "base/macros.h"

struct args;

/* The exit code. */
int offline_verify(struct args *a) _must_check_;
