/*
 * Verifies the audit's chain row by row, from its beginning, a checkpoint, or the middle of an
 * export. The first fault ends the good part; the rows after it only help to say what happened:
 * each genuine row still proves, by its hash, where it belongs.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "core/audit.h"

struct keyring;

enum chain_fault {
	CHAIN_GOOD,
	CHAIN_CHANGED,	    /* the row and its hash do not fit */
	CHAIN_MISSING,	    /* no such row any more */
	CHAIN_INSERTED,	    /* a row that was never written stands here */
	CHAIN_OUT_OF_ORDER, /* the row stands somewhere else */
	CHAIN_IMPOSSIBLE,   /* a value that no row has */
	CHAIN_FORGED,	    /* what vouches for the row is not signed with the audit key */
	CHAIN_OTHER_HEAD,   /* whole, but not the audit that the head was exported from */
	CHAIN_UNGUARDED,    /* whole, but a row that is written next would not be guarded */
};

struct chain_verdict {
	enum chain_fault fault;
	int64_t sequence; /* the first that is bad */
	/* _OUT_OF_ORDER, _INSERTED: where the row that belongs there stands, 0 if that is not
	 * known; _MISSING: the last one that is missing, 0 if that is not known */
	int64_t other;
};

/* A head as it was noted some time: the audit must still hold that very row. */
struct chain_head {
	uint64_t sequence;
	uint8_t hash[HASH_SIZE];
	enum { CHAIN_HEAD_OPEN, CHAIN_HEAD_HELD, CHAIN_HEAD_OTHER } state;
};

/* Visible so that it can live on the stack; its members are the module's own but for `first`,
 * `last`, `hash` and `n_rows`, which describe the good part. */
struct chain {
	const struct keyring *keyring;
	uint64_t first, last; /* last: first - 1 as long as there is none */
	uint8_t hash[HASH_SIZE];
	uint64_t n_rows;
	struct chain_head *heads;
	size_t n_heads;

	struct chain_verdict verdict;
	bool searching;		   /* a later row may still tell more */
	uint64_t n_searched;	   /* rows since the bad one */
	struct audit_row bad;	   /* where the good part ended */
	uint8_t before[HASH_SIZE]; /* the stored hash of the row just before */
};

/* `after` and `hash`: what comes before the first row; 0 and zeroes for a whole audit. `keyring` is
 * borrowed. */
void chain_start(struct chain *c, const struct keyring *keyring, uint64_t after,
		 const uint8_t hash[HASH_SIZE]);
/* Heads (borrowed) that the rows from now on are held against. */
void chain_expect(struct chain *c, struct chain_head *heads, size_t n);
/* The next row. False: the verdict stands, and further rows change nothing. */
bool chain_add(struct chain *c, const struct audit_row *row);
/* The next row could not be read as one. */
void chain_add_impossible(struct chain *c, int64_t sequence);
/* Is all so far as it was written? */
bool chain_is_good(const struct chain *c);
/*
 * The rows up to `through` were taken away lawfully, the last of them with `hash`: go on behind
 * them.
 */
void chain_skip(struct chain *c, uint64_t through, const uint8_t hash[HASH_SIZE]);
/* There are no more rows: a head that has not come is missing. */
void chain_end(struct chain *c, struct chain_verdict *ret);

#define CHAIN_TEXT_MAX 256
/* What happened, for people. */
void chain_text(const struct chain_verdict *v, char ret[CHAIN_TEXT_MAX]);
/* One word for programs: "changed", "missing", …; "" for CHAIN_GOOD. */
const char *chain_fault_name(enum chain_fault fault);
/* SEQUENCE:HASH as it is shown and exported; -EINVAL (not logged). */
int chain_head_parse(const char *text, struct chain_head *ret) _must_check_;
