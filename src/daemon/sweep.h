/*
 * Upstream's list of our keys beside ours: what upstream has under our user_id and the store
 * doesn't know is deleted, by hash, once two sweeps have seen it. At the start of a term and every
 * ten minutes.
 */
#pragma once

#include "base/macros.h"

struct daemon;
struct sweep;

struct sweep *sweep_new(struct daemon *d);
void sweep_free(struct sweep *s);
DEFINE_CLEANUP(struct sweep, sweep)
/* The first sweep; the others follow by themselves. */
void sweep_start(struct sweep *s);
