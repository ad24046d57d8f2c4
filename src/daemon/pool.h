/*
 * The warm pool of a dedicated profile: keys that are there before anybody asks, so that an acquire
 * needs no upstream. A key in it is a dedicated one whose row names no uid yet: the commit that
 * hands it out writes one in. Never more than the profile's `pool` are upstream without a holder.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>

#include "base/macros.h"
#include "core/key.h"

struct acquire;
struct change;
struct daemon;
struct key;
struct pool;
struct pools;

/* A key's place in its pool. */
struct pooled {
	struct pool *pool; /* NULL: it is in none */
	TAILQ_ENTRY(key) of_pool;
	bool taken;  /* it is being handed out: the commit is on its way */
	bool missed; /* the sweep under way has not seen it yet */
};

/* A digest of all that a key of this profile has, whoever gets it; of shared profiles too. */
void pool_settings(const struct profile *p, char ret[KEY_SETTINGS_SIZE]);

struct pools *pools_new(void);
void pools_free(struct pools *pools); /* after the keys */
DEFINE_CLEANUP(struct pools, pools)
/* Follows the configuration: fills, and retires what is too many or was made by other settings. */
void pools_configure(struct daemon *d);
/* An unassigned key was found in the store. An intent is burned: nobody waits for it. */
void pool_adopt(struct key *k);

/* The key that lives longest of those that will do for this acquire; NULL: there is none. */
struct key *pool_pick(const struct acquire *a);
/* Would it be handed out if somebody asked now? */
bool pool_gives(const struct key *k);
/* Its new owner goes into the change that has lease and audit row; nobody else gets it meanwhile.
 */
void pool_hand_out(struct key *k, const struct acquire *a, struct change *c);
void pool_handed_out(struct key *k, bool committed);

/* Its mint is done: commits it as live. */
void pool_minted(struct key *k);
/* Its mint did not go well; `failed`: it is given up. Nothing for a key of no pool. */
void pool_trouble(struct key *k, bool failed, const char *message);
/* Its row has changed: it may have left the pool. */
void pool_settle(struct key *k);
void pool_leave(struct key *k);

/* Around a sweep: a live key of a pool that upstream's list lacked is asked about. */
void pools_expect(struct daemon *d);
void pools_doubt(struct daemon *d);

struct pool_state {
	size_t ready, making;
	const char *error; /* "" */
};
/* For `status`. */
struct pool_state pool_state(const struct daemon *d, const char *profile);
