/* `export`: the rows of a state as JSON lines on stdout. */
#pragma once

#include "base/macros.h"

struct args;

/* The exit code. */
int export_state(const struct args *a) _must_check_;
