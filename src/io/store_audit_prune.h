/*
 * Taking the oldest rows of the audit away: only rows that the chain proves, only behind a signed
 * checkpoint, and never the newest. Also which rows an export has, which is what a prune asks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/audit_checkpoint.h"
#include "io/store.h"

struct store_audit_prune {
	int64_t before_ms; /* rows of an earlier wall clock, up to the first that is not */
	uint64_t through;  /* and none after this sequence */
	size_t limit;	   /* rows in this turn */
};

/*
 * Within a turn: removes what `what` says and moves the checkpoint; `*ret_removed` is how many
 * (fewer than the limit: there are no more) and `*ret` the checkpoint as it is now. Outcomes as
 * store_begin(), and STORE_E_BROKEN: the rows do not verify, so none is removed.
 */
int store_audit_prune(struct store *s, const struct store_audit_prune *what,
		      struct audit_checkpoint *ret, size_t *ret_removed) _must_check_;
/* The checkpoint; all zeroes without one. STORE_E_BROKEN: it was not signed by this state's key. */
int store_audit_checkpoint(struct store *s, struct audit_checkpoint *ret) _must_check_;

/* The wall clock of one row; -ENOENT (not logged). */
int store_audit_wall(struct store *s, uint64_t sequence, int64_t *ret_ms) _must_check_;

/* Every row up to this sequence was exported; 0: none. */
int store_audit_exported(struct store *s, uint64_t *ret) _must_check_;
/* Within a turn. */
int store_set_audit_exported(struct store *s, uint64_t sequence) _must_check_;
