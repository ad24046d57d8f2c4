/* The leader's view of the other instances. */
#pragma once

#include <stddef.h>

#include "base/macros.h"

struct daemon;
struct leader;
struct roll;

struct roll *roll_new(struct daemon *d);
void roll_free(struct roll *r);
DEFINE_CLEANUP(struct roll, roll)
/* Beats if another instance is registered, and forgets those that are gone. Outcomes as
 * store_begin(). */
int roll_call(struct roll *r) _must_check_;
/* The n-th of the others, as of the last call; NULL at the end. */
const struct leader *roll_get(const struct roll *r, size_t n);
