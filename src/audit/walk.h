/* Goes through the rows of a state from page to page, with a prune going on or not. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "core/audit_chain.h"
#include "core/audit_checkpoint.h"

struct place;

struct walk {
	struct chain chain;
	struct audit_checkpoint checkpoint; /* the last that was met, genuine; zeroes: none */
	bool is_forged;	    /* one was met that the audit key did not sign: no row was asked then */
	uint64_t forged;    /* its sequence */
	bool was_overtaken; /* rows were pruned before they were read */
};

/* Each row, in order, as it stands; a non-zero answer ends the walk and is returned. */
typedef int (*walk_fn)(const struct audit_row *row, void *userdata);

/*
 * From the beginning, which is the checkpoint if there is one. `heads` (borrowed) as
 * chain_expect(). 0, whatever the rows are like: the chain says that. An exit code (said), or what
 * `each` (may be NULL) answered.
 */
int walk_begin(struct walk *w, const struct place *p, struct chain_head *heads,
	       size_t n) _must_check_;
/* From the row after `after`, which must be there still, or be the checkpoint's. */
int walk_begin_after(struct walk *w, const struct place *p, uint64_t after) _must_check_;
int walk_run(struct walk *w, const struct place *p, int64_t to, walk_fn each,
	     void *userdata) _must_check_;
