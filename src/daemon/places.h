/*
 * Whose turn it is to ask upstream. As many calls go there at once as there are places, and those
 * of one uid must not hold up another's: a place goes to one party after the other, in turn, and
 * the last free one to nobody who has a place already.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/macros.h"

struct party;
struct places;

/* One call's place, part of the call; zeroed at first. */
struct place {
	TAILQ_ENTRY(place) waiting;
	struct party *party; /* NULL: it has no place and waits for none */
	bool taken;
	bool urgent;
};

struct places *places_new(unsigned n); /* at least 2 */
void places_free(struct places *all);  /* all places must have been left */
DEFINE_CLEANUP(struct places, places)

/*
 * Takes a place. False: it waits for one, until place_leave() of another place returns it.
 * `urgent`: before those of its own party that are not.
 */
bool place_take(struct places *all, struct place *p, int64_t party, bool urgent) _must_check_;
/* Gives up a place, or waiting for one. Who has got one instead, or NULL. */
struct place *place_leave(struct places *all, struct place *p);
