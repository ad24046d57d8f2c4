/* The walk. Each page is one short transaction; between two of them the broker may prune. */
#include "audit/walk.h"

#include <sysexits.h>

#include "audit/args.h"
#include "audit/place.h"
#include "base/alloc.h"
#include "io/store_view.h"

/* Takes over what a page's transaction saw of the checkpoint. */
static void walk_meet_checkpoint(struct walk *w, const struct place *p,
				 const struct audit_checkpoint *c)
{
	if (c->sequence == 0 || c->sequence == w->checkpoint.sequence)
		return;
	if (!checkpoint_is_genuine(p->keyring, p->install, c)) {
		w->is_forged = true;
		w->forged = c->sequence;
		return;
	}
	w->checkpoint = *c;
}

static int walk_page(struct walk *w, const struct place *p, int64_t from, int64_t to,
		     struct store_page *page)
{
	int r = store_view_read(p->view, from, to, page);

	if (r != 0)
		return place_failed(p, r);
	walk_meet_checkpoint(w, p, &page->checkpoint);
	return 0;
}

int walk_begin(struct walk *w, const struct place *p, struct chain_head *heads, size_t n)
{
	_cleanup_(freep) struct store_page *page = xcalloc(1, sizeof(*page));
	int r;

	*w = (struct walk){ 0 };
	r = walk_page(w, p, 1, 0, page); /* the checkpoint alone */
	chain_start(&w->chain, p->keyring, w->checkpoint.sequence, w->checkpoint.hash);
	chain_expect(&w->chain, heads, n);
	return r;
}

int walk_begin_after(struct walk *w, const struct place *p, uint64_t after)
{
	_cleanup_(freep) struct store_page *page = xcalloc(1, sizeof(*page));
	int r;

	*w = (struct walk){ 0 };
	r = walk_page(w, p, (int64_t)after, (int64_t)after, page);
	if (r != 0)
		return r;
	if (w->checkpoint.sequence >= after) {
		chain_start(&w->chain, p->keyring, w->checkpoint.sequence, w->checkpoint.hash);
		return 0;
	}
	if (page->n == 0) {
		args_say("there is no row %llu to go on from: `keybroker audit verify` says more",
			 (unsigned long long)after);
		return EX_USAGE;
	}
	chain_start(&w->chain, p->keyring, after, page->rows[0].hash);
	return 0;
}

/* Rows that a prune took away between two pages were whole when it did: it has looked. */
static void walk_keep_up(struct walk *w)
{
	if (w->checkpoint.sequence <= w->chain.last || !chain_is_good(&w->chain))
		return;
	w->was_overtaken = true;
	chain_skip(&w->chain, w->checkpoint.sequence, w->checkpoint.hash);
}

/* False: there is no need to look further. */
static bool walk_rows(struct walk *w, const struct store_page *page, walk_fn each, void *userdata,
		      int *ret)
{
	bool more = true;

	for (size_t i = 0; i < page->n && *ret == 0; i++) {
		more = chain_add(&w->chain, &page->rows[i]);
		if (each)
			*ret = each(&page->rows[i], userdata);
		else if (!more)
			return false;
	}
	if (page->is_broken)
		chain_add_impossible(&w->chain, page->broken);
	return *ret == 0 && !page->is_broken && page->n == STORE_PAGE_ROWS &&
	       page->rows[page->n - 1].sequence != INT64_MAX;
}

int walk_run(struct walk *w, const struct place *p, int64_t to, walk_fn each, void *userdata)
{
	_cleanup_(freep) struct store_page *page = xcalloc(1, sizeof(*page));
	/* a whole walk also sees what stands before the first row */
	int64_t from =
		w->chain.last == w->checkpoint.sequence ? INT64_MIN : (int64_t)w->chain.last + 1;
	bool more = true;
	int r = 0;

	while (r == 0 && more && !w->is_forged) {
		r = walk_page(w, p, from, to, page);
		if (r != 0 || w->is_forged)
			break;
		walk_keep_up(w);
		more = walk_rows(w, page, each, userdata, &r);
		if (more)
			from = (int64_t)page->rows[page->n - 1].sequence + 1;
	}
	return r;
}
