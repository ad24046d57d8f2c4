/* Parties that hold a place or wait for one, on a ring: the next to get one is at its front. */
#include "daemon/places.h"

#include <assert.h>
#include <stdlib.h>

#include "base/alloc.h"

TAILQ_HEAD(place_list, place);

struct party {
	TAILQ_ENTRY(party) link;
	int64_t id;
	unsigned taken;
	struct place_list waiting;
};

struct places {
	TAILQ_HEAD(, party) ring;
	unsigned free;
};

struct places *places_new(unsigned n)
{
	struct places *all = xcalloc(1, sizeof(*all));

	TAILQ_INIT(&all->ring);
	all->free = n;
	return all;
}

void places_free(struct places *all)
{
	if (!all)
		return;
	assert(TAILQ_EMPTY(&all->ring));
	free(all);
}

static struct party *places_party(struct places *all, int64_t id)
{
	struct party *of;

	TAILQ_FOREACH (of, &all->ring, link)
		if (of->id == id)
			return of;
	of = xcalloc(1, sizeof(*of));
	of->id = id;
	TAILQ_INIT(&of->waiting);
	TAILQ_INSERT_TAIL(&all->ring, of, link);
	return of;
}

static bool places_may_have(const struct places *all, const struct party *of)
{
	return all->free > (of->taken > 0 ? 1U : 0U);
}

static void places_give(struct places *all, struct place *p)
{
	struct party *of = p->party;

	all->free--;
	of->taken++;
	p->taken = true;
	TAILQ_REMOVE(&all->ring, of, link);
	TAILQ_INSERT_TAIL(&all->ring, of, link); /* the others come first now */
}

static void places_queue(struct place *p)
{
	struct place_list *waiting = &p->party->waiting;
	struct place *before = p->urgent ? TAILQ_FIRST(waiting) : NULL;

	while (before && before->urgent)
		before = TAILQ_NEXT(before, waiting);
	if (before)
		TAILQ_INSERT_BEFORE(before, p, waiting);
	else
		TAILQ_INSERT_TAIL(waiting, p, waiting);
}

bool place_take(struct places *all, struct place *p, int64_t party, bool urgent)
{
	p->party = places_party(all, party);
	p->urgent = urgent;
	/* Who waits already has a reason to: either nothing is free, or it may not have the last.
	 */
	if (TAILQ_EMPTY(&p->party->waiting) && places_may_have(all, p->party))
		places_give(all, p);
	else
		places_queue(p);
	return p->taken;
}

static struct place *places_next(struct places *all)
{
	struct party *of;
	struct place *p;

	TAILQ_FOREACH (of, &all->ring, link) {
		p = TAILQ_FIRST(&of->waiting);
		if (!p || !places_may_have(all, of))
			continue;
		TAILQ_REMOVE(&of->waiting, p, waiting);
		places_give(all, p);
		return p;
	}
	return NULL;
}

struct place *place_leave(struct places *all, struct place *p)
{
	struct party *of = p->party;

	if (!of)
		return NULL;
	if (p->taken) {
		all->free++;
		of->taken--;
	} else {
		TAILQ_REMOVE(&of->waiting, p, waiting);
	}
	*p = (struct place){ 0 };
	if (of->taken == 0 && TAILQ_EMPTY(&of->waiting)) {
		TAILQ_REMOVE(&all->ring, of, link);
		free(of);
	}
	return places_next(all);
}
