/* The chain's verification: keyed hashes of rows as they stand, and as they might have stood. */
#include "core/audit_chain.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/crypt.h"

/* How many rows taken out at one place are still counted when those after it were renumbered. */
#define CHAIN_SHIFT_MAX 10000

static bool chain_same(const uint8_t a[HASH_SIZE], const uint8_t b[HASH_SIZE])
{
	return memcmp(a, b, HASH_SIZE) == 0;
}

/* The hash that `row` has as number `sequence` after a row with the hash `previous`. */
static void chain_hash(const struct chain *c, const uint8_t previous[HASH_SIZE],
		       const struct audit_row *row, uint64_t sequence, uint8_t ret[HASH_SIZE])
{
	_cleanup_(buf_deinit) struct buf b = BUF_INIT(2 * sizeof(*row));
	struct audit_row as = *row;

	as.sequence = sequence;
	if (audit_encode(&as, &b) < 0)
		abort(); /* without memory for two kilobytes there is nothing to be said */
	keyring_chain(c->keyring, previous, b.data, b.len, ret);
}

static bool chain_fits(const struct chain *c, const uint8_t previous[HASH_SIZE],
		       const struct audit_row *row, uint64_t sequence)
{
	uint8_t hash[HASH_SIZE];

	chain_hash(c, previous, row, sequence, hash);
	return chain_same(hash, row->hash);
}

void chain_start(struct chain *c, const struct keyring *keyring, uint64_t after,
		 const uint8_t hash[HASH_SIZE])
{
	*c = (struct chain){ .keyring = keyring, .first = after + 1, .last = after };
	memcpy(c->hash, hash, HASH_SIZE);
}

static void chain_meet_heads(struct chain *c)
{
	for (size_t i = 0; i < c->n_heads; i++)
		if (c->heads[i].sequence == c->last)
			c->heads[i].state = chain_same(c->heads[i].hash, c->hash)
						    ? CHAIN_HEAD_HELD
						    : CHAIN_HEAD_OTHER;
}

void chain_expect(struct chain *c, struct chain_head *heads, size_t n)
{
	c->heads = heads;
	c->n_heads = n;
	chain_meet_heads(c); /* what a checkpoint or a header says of the row before the first */
}

bool chain_is_good(const struct chain *c)
{
	return c->verdict.fault == CHAIN_GOOD;
}

void chain_skip(struct chain *c, uint64_t through, const uint8_t hash[HASH_SIZE])
{
	assert(chain_is_good(c) && through >= c->last);
	c->last = through;
	memcpy(c->hash, hash, HASH_SIZE);
	chain_meet_heads(c);
}

static bool chain_judge(struct chain *c, enum chain_fault fault, uint64_t sequence, uint64_t other)
{
	c->verdict = (struct chain_verdict){ fault, (int64_t)sequence, (int64_t)other };
	c->searching = false;
	return false;
}

/* The row that ends the good part. */
static bool chain_break(struct chain *c, const struct audit_row *row)
{
	const uint64_t expected = c->last + 1;

	/* as SQLite sees the number: it may be negative */
	if ((int64_t)row->sequence < (int64_t)expected)
		return chain_judge(c, CHAIN_INSERTED, row->sequence, 0);
	if (row->sequence != expected && chain_fits(c, c->hash, row, expected))
		return chain_judge(c, CHAIN_OUT_OF_ORDER, expected, row->sequence);
	if (row->sequence == expected)
		(void)chain_judge(c, CHAIN_CHANGED, expected, 0);
	else
		(void)chain_judge(c, CHAIN_MISSING, expected, row->sequence - 1);
	c->bad = *row;
	memcpy(c->before, row->hash, HASH_SIZE);
	c->searching = true;
	return true;
}

/* The row right after one that does not fit tells most: what it was chained to. */
static bool chain_search_next(struct chain *c, const struct audit_row *row)
{
	const uint64_t expected = c->bad.sequence;
	uint8_t right[HASH_SIZE];

	chain_hash(c, c->hash, &c->bad, expected, right);
	if (row->sequence == expected + 1 && (chain_fits(c, c->bad.hash, row, row->sequence) ||
					      chain_fits(c, right, row, row->sequence)))
		return chain_judge(c, CHAIN_CHANGED, expected, 0);
	/* rows were taken out, and those after them got their numbers */
	for (uint64_t n = 1; n <= CHAIN_SHIFT_MAX; n++)
		if (chain_fits(c, c->bad.hash, row, row->sequence + n))
			return chain_judge(c, CHAIN_MISSING, expected, expected + n - 1);
	return true;
}

/* A row after the good part: is it the one that should have come? */
static bool chain_search(struct chain *c, const struct audit_row *row)
{
	const uint64_t expected = c->last + 1;
	bool is_next = c->n_searched++ == 0, is_swapped;

	if (is_next && c->verdict.fault == CHAIN_CHANGED && !chain_search_next(c, row))
		return false;
	if (!chain_fits(c, c->hash, row, expected)) {
		memcpy(c->before, row->hash, HASH_SIZE);
		return true;
	}
	/* did the two change places, or was the first one never written? */
	is_swapped = chain_fits(c, is_next ? row->hash : c->before, &c->bad, row->sequence);
	return chain_judge(c,
			   is_swapped || c->verdict.fault == CHAIN_MISSING ? CHAIN_OUT_OF_ORDER
									   : CHAIN_INSERTED,
			   expected, row->sequence);
}

bool chain_add(struct chain *c, const struct audit_row *row)
{
	if (!chain_is_good(c))
		return c->searching && chain_search(c, row);
	if (row->sequence != c->last + 1 || !chain_fits(c, c->hash, row, row->sequence))
		return chain_break(c, row);
	c->last = row->sequence;
	memcpy(c->hash, row->hash, HASH_SIZE);
	c->n_rows++;
	chain_meet_heads(c);
	return true;
}

void chain_add_impossible(struct chain *c, int64_t sequence)
{
	if (!chain_is_good(c))
		return;
	if (sequence > (int64_t)c->last + 1)
		(void)chain_judge(c, CHAIN_MISSING, c->last + 1, (uint64_t)sequence - 1);
	else
		(void)chain_judge(c, CHAIN_IMPOSSIBLE, (uint64_t)sequence, 0);
}

/* The rows may be whole and yet not those that the heads were taken from; the earliest counts. */
static void chain_judge_heads(const struct chain *c, struct chain_verdict *v)
{
	for (size_t i = 0; i < c->n_heads; i++) {
		const struct chain_head *h = &c->heads[i];
		int64_t at = (int64_t)(h->state == CHAIN_HEAD_OTHER ? h->sequence : c->last + 1);

		if (h->state == CHAIN_HEAD_HELD ||
		    (h->state == CHAIN_HEAD_OPEN && h->sequence <= c->last))
			continue;
		if (v->fault != CHAIN_GOOD && v->sequence < at)
			continue;
		if (h->state == CHAIN_HEAD_OTHER)
			*v = (struct chain_verdict){ CHAIN_OTHER_HEAD, at, 0 };
		else if (v->fault != CHAIN_MISSING || v->other < (int64_t)h->sequence)
			*v = (struct chain_verdict){ CHAIN_MISSING, at, (int64_t)h->sequence };
	}
}

void chain_end(struct chain *c, struct chain_verdict *ret)
{
	struct chain_verdict v = c->verdict;

	chain_judge_heads(c, &v);
	/* a fault where the rows end says more than the end alone */
	*ret = chain_is_good(c) || v.fault == CHAIN_OTHER_HEAD ? v : c->verdict;
}

static const char *const chain_fault_names[] = {
	[CHAIN_GOOD] = "",
	[CHAIN_CHANGED] = "changed",
	[CHAIN_MISSING] = "missing",
	[CHAIN_INSERTED] = "inserted",
	[CHAIN_OUT_OF_ORDER] = "out_of_order",
	[CHAIN_IMPOSSIBLE] = "impossible",
	[CHAIN_FORGED] = "forged",
	[CHAIN_OTHER_HEAD] = "other_head",
	[CHAIN_UNGUARDED] = "unguarded",
};

const char *chain_fault_name(enum chain_fault fault)
{
	return chain_fault_names[fault];
}

void chain_text(const struct chain_verdict *v, char ret[CHAIN_TEXT_MAX])
{
	static const char *const texts[] = {
		[CHAIN_GOOD] = "",
		[CHAIN_CHANGED] = "its hash differs: it was changed, or never written so",
		[CHAIN_MISSING] = "it is missing",
		[CHAIN_INSERTED] = "it was inserted: no such row was written here",
		[CHAIN_OUT_OF_ORDER] = "out of order: what belongs here stands elsewhere",
		[CHAIN_IMPOSSIBLE] = "it has a value that no row has",
		[CHAIN_FORGED] = "what vouches for it is not signed with this audit key",
		[CHAIN_OTHER_HEAD] = "it is whole, but not the row of the head that was given",
		[CHAIN_UNGUARDED] = "nothing guards what comes next",
	};
	long long other = (long long)v->other;

	if (v->fault == CHAIN_MISSING && other > v->sequence)
		(void)snprintf(ret, CHAIN_TEXT_MAX, "it is missing, with all up to %lld", other);
	else if (v->fault == CHAIN_OUT_OF_ORDER && other != v->sequence)
		(void)snprintf(ret, CHAIN_TEXT_MAX,
			       "out of order: the row that belongs here stands at %lld", other);
	else if (v->fault == CHAIN_INSERTED && other)
		(void)snprintf(ret, CHAIN_TEXT_MAX,
			       "it was inserted: the row that belongs here stands at %lld", other);
	else
		(void)snprintf(ret, CHAIN_TEXT_MAX, "%s", texts[v->fault]);
}

int chain_head_parse(const char *text, struct chain_head *ret)
{
	struct chain_head h = { 0 };
	unsigned long long n;
	char *end;

	if (*text < '1' || *text > '9')
		return -EINVAL;
	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno || *end != ':' || n > INT64_MAX || crypt_unhex(end + 1, h.hash, HASH_SIZE) < 0)
		return -EINVAL;
	h.sequence = n;
	*ret = h;
	return 0;
}
