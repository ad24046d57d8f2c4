/*
 * What a standby may conclude from watching a leader, as values: it looks at fixed times and feeds
 * what it saw. SQLite arbitrates who wins; this only says whether an attempt is justified.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/crypt.h"
#include "core/timing.h"

enum election_evidence {
	ELECTION_ALIVE,	  /* nothing speaks against it */
	ELECTION_STOPPED, /* its process has been in state T for timing.stopped_ms */
	ELECTION_STILL,	  /* its beat has stood still for timing.still_ms, as we saw ourselves */
};

/* What one look saw. */
struct election_view {
	char holder[ID_SIZE];
	uint64_t beat;
	bool stopped;	/* state T or t; false where it cannot be known (another pid namespace) */
	int64_t now_ms; /* CLOCK_MONOTONIC */
};

struct election_watch {
	struct election_view last;
	int64_t count_from_ms; /* no stillness counts before: a leader beats only for those it knows
				*/
	int64_t still_since_ms;	  /* the beat has been the same since; 0: not counting */
	int64_t stopped_since_ms; /* 0: it runs */
	unsigned looks;		  /* while it stood still */
};

/* Begins anew: nothing that was seen before counts. */
void election_start(struct election_watch *w, const struct timing *t, int64_t now_ms);
/* Takes a look in. A gap since the one before (we slept, or were stopped) counts for nothing. */
enum election_evidence election_look(struct election_watch *w, const struct timing *t,
				     const struct election_view *view);
