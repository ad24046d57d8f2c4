/* A standby's patience. Only its own clock and its own looks count, never a time that another
 * wrote. */
#include "core/election.h"

#include <string.h>

#define ELECTION_LOOKS 10 /* stillness seen in fewer looks may be our own slowness */

void election_start(struct election_watch *w, const struct timing *t, int64_t now_ms)
{
	*w = (struct election_watch){ .count_from_ms = now_ms + t->newcomer_ms };
}

static void election_count_stillness(struct election_watch *w, const struct timing *t,
				     const struct election_view *view)
{
	bool same = strcmp(view->holder, w->last.holder) == 0 && view->beat == w->last.beat;

	if (!same || view->now_ms - w->last.now_ms > t->standby_gap_ms)
		w->still_since_ms = 0;
	if (view->now_ms < w->count_from_ms)
		return;
	if (w->still_since_ms == 0) {
		w->still_since_ms = view->now_ms;
		w->looks = 0;
	}
	w->looks++;
}

enum election_evidence election_look(struct election_watch *w, const struct timing *t,
				     const struct election_view *view)
{
	bool fresh = strcmp(view->holder, w->last.holder) == 0 &&
		     view->now_ms - w->last.now_ms <= t->standby_gap_ms;

	election_count_stillness(w, t, view);
	if (!view->stopped)
		w->stopped_since_ms = 0;
	else if (!fresh || w->stopped_since_ms == 0)
		w->stopped_since_ms = view->now_ms;
	w->last = *view;
	if (view->stopped && view->now_ms - w->stopped_since_ms >= t->stopped_ms)
		return ELECTION_STOPPED;
	if (w->looks >= ELECTION_LOOKS && view->now_ms - w->still_since_ms >= t->still_ms)
		return ELECTION_STILL;
	return ELECTION_ALIVE;
}
