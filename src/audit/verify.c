/* Verifies a state. Rows that come after it has begun are the next one's. */
#include "audit/verify.h"

#include <stdio.h>
#include <string.h>

#include "audit/args.h"
#include "audit/place.h"
#include "audit/report.h"
#include "audit/walk.h"
#include "base/alloc.h"

static void verify_judge(const struct walk *w, struct report *r, char why[256])
{
	if (w->is_forged) {
		r->verdict = (struct chain_verdict){ CHAIN_FORGED, (int64_t)w->chain.last + 1, 0 };
		(void)snprintf(why, 256,
			       "the checkpoint at %llu, which should account for it, is not signed "
			       "with this state's audit key",
			       (unsigned long long)w->forged);
		r->why = why;
		return;
	}
	/* a prune never takes the newest row */
	if (r->verdict.fault == CHAIN_GOOD && r->n_rows == 0 && r->checkpoint.sequence > 0)
		r->verdict = (struct chain_verdict){ CHAIN_MISSING, (int64_t)w->chain.last + 1, 0 };
}

/* Rows that were exported leave by a prune alone, and it never takes the newest. */
static void verify_exported(struct report *r, uint64_t exported)
{
	if (r->verdict.fault == CHAIN_GOOD && exported > r->last)
		r->verdict = (struct chain_verdict){ CHAIN_MISSING, (int64_t)r->last + 1,
						     (int64_t)exported };
}

/* All that is there is right; would a change of it be refused, and a row of nobody's? */
static int verify_guards(const struct place *p, struct report *r, char why[256])
{
	char names[512];
	int result = store_view_guards(p->view, names, sizeof(names));

	if (result != 0)
		return place_failed(p, result);
	if (names[0] == '\0')
		return 0;
	r->verdict = (struct chain_verdict){ CHAIN_UNGUARDED, (int64_t)r->last + 1, 0 };
	(void)snprintf(why, 256,
		       "nothing guards what comes next: triggers are missing or changed, which the "
		       "next leader makes anew: %.150s",
		       names);
	r->why = why;
	return 0;
}

/* The rows are right; are the pages that hold them? */
static int verify_pages(const struct place *p, struct report *r, char why[256])
{
	char answer[256];
	int result = store_view_check(p->view, answer);

	if (result != 0)
		return place_failed(p, result);
	if (strcmp(answer, "ok") == 0)
		return 0;
	/* it may name what somebody else made up for a terminal */
	for (char *at = answer; *at; at++)
		if ((unsigned char)*at < ' ' || *at == 0x7f)
			*at = ' ';
	r->verdict = (struct chain_verdict){ CHAIN_IMPOSSIBLE, (int64_t)r->last, 0 };
	(void)snprintf(why, 256, "all rows are right, but the database is damaged: %.180s", answer);
	r->why = why;
	return 0;
}

/* For the broker's record. A reader that has gone misses it. */
static void verify_tell(const struct args *a, const struct report *r)
{
	if (a->verdict_fd > 0)
		(void)dprintf((int)a->verdict_fd, "%llu %lld %s\n", (unsigned long long)r->last,
			      (long long)r->verdict.sequence, chain_fault_name(r->verdict.fault));
}

static int verify_walk(struct args *a, const struct place *p)
{
	struct report report = { 0 };
	char why[256];
	struct walk *w;
	uint64_t exported = 0;
	int64_t last = 0;
	int r = store_view_exported(p->view, &exported);

	if (r == 0)
		r = store_view_last(p->view, &last);
	if (r != 0)
		return place_failed(p, r);
	w = xcalloc(1, sizeof(*w));
	r = walk_begin(w, p, a->heads, a->n_heads);
	if (r == 0)
		r = walk_run(w, p, last, NULL, NULL);
	chain_end(&w->chain, &report.verdict);
	report.first = w->chain.first;
	report.last = w->chain.last;
	report.n_rows = w->chain.n_rows;
	report.checkpoint = w->checkpoint;
	memcpy(report.hash, w->chain.hash, HASH_SIZE);
	verify_judge(w, &report, why);
	verify_exported(&report, exported);
	free(w);
	if (r == 0 && report.verdict.fault == CHAIN_GOOD)
		r = verify_pages(p, &report, why);
	if (r == 0 && report.verdict.fault == CHAIN_GOOD)
		r = verify_guards(p, &report, why);
	if (r != 0)
		return r;
	verify_tell(a, &report);
	return report_print(a, &report);
}

int verify_state(struct args *a)
{
	struct place p;
	int r = place_find(a, &p);

	r = r ? r : place_keys(&p);
	r = r ? r : place_open(&p);
	r = r ? r : verify_walk(a, &p);
	place_deinit(&p);
	return r;
}
