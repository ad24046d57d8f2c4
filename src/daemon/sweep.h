/*
 * Upstream's list of our keys beside ours: what upstream has under our user_id and the store
 * doesn't know is deleted, by hash, once two sweeps have seen it. At the start of a term, every ten
 * minutes, and when an administrator asks for it.
 */
#pragma once

#include <stdint.h>

#include "base/macros.h"
#include "proto/errors.h"

struct daemon;
struct request;
struct sweep;

/* What one sweep came upon. */
struct sweep_found {
	int64_t listed;	 /* keys of this install upstream */
	int64_t marked;	 /* of those: unknown here, seen for the first time; the next one deletes */
	int64_t deleted; /* unknown here and seen before */
};

struct sweep *sweep_new(struct daemon *d);
void sweep_free(struct sweep *s);
DEFINE_CLEANUP(struct sweep, sweep)
/* The first sweep; the others follow by themselves. */
void sweep_start(struct sweep *s);
/* Sweeps now, or again after the one that is under way, and answers the request then. */
void sweep_ask(struct sweep *s, struct request *r);
/* Ends the requests that wait. */
void sweep_fail_all(struct sweep *s, enum proto_error code, int64_t retry_after_ms,
		    const char *message);

/* op_sweep.c */
void op_sweep_reply(struct request *r, const struct sweep_found *found);
