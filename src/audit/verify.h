/* `verify` of a state: the whole chain, the checkpoint, the heads, and the pages. */
#pragma once

#include "base/macros.h"

struct args;

/* The exit code. */
int verify_state(struct args *a) _must_check_;
