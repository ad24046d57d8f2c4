/* The waits are on the daemon's list from their start to their end; each names its keys by id,
 * since a key that is deleted goes. */
#include "daemon/revoke_wait.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "daemon/daemon.h"
#include "daemon/keys.h"

struct revoke_wait {
	struct daemon *d;
	struct revoke_wait *following; /* on d->revoke_waits */
	revoke_wait_fn done;
	void *userdata;
	struct event *timer;
	char (*ids)[ID_SIZE]; /* whose outcome is awaited */
	size_t n_ids;
	int64_t failed;
};

static void revoke_wait_leave(struct revoke_wait *w)
{
	struct revoke_wait **at = &w->d->revoke_waits;

	while (*at && *at != w)
		at = &(*at)->following;
	if (*at)
		*at = w->following;
}

void revoke_wait_free(struct revoke_wait *w)
{
	if (!w)
		return;
	revoke_wait_leave(w);
	event_free(w->timer);
	free(w->ids);
	free(w);
}

/* `done` frees it. */
static void revoke_wait_end(struct revoke_wait *w)
{
	w->done(w->userdata, w->failed + (int64_t)w->n_ids);
}

static void revoke_wait_on_timer(int fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	revoke_wait_end(userdata);
}

static void revoke_wait_in(struct revoke_wait *w, int64_t ms)
{
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	(void)evtimer_add(w->timer,
			  &tv); /* fails only without memory, when the process ends anyway */
}

struct revoke_wait *revoke_wait_new(struct daemon *d, revoke_wait_fn done, void *userdata)
{
	struct revoke_wait *w = xcalloc(1, sizeof(*w));

	w->d = d;
	w->done = done;
	w->userdata = userdata;
	w->timer = evtimer_new(d->base, revoke_wait_on_timer, w);
	if (!w->timer)
		abort();
	w->following = d->revoke_waits;
	d->revoke_waits = w;
	return w;
}

static size_t revoke_wait_find(const struct revoke_wait *w, const struct key *k)
{
	size_t i = 0;

	while (i < w->n_ids && strcmp(w->ids[i], k->row.id) != 0)
		i++;
	return i;
}

void revoke_wait_add(struct revoke_wait *w, const struct key *k)
{
	if (revoke_wait_find(w, k) < w->n_ids)
		return;
	w->ids = xrealloc(w->ids, w->n_ids + 1, sizeof(*w->ids));
	memcpy(w->ids[w->n_ids++], k->row.id, ID_SIZE);
}

void revoke_wait_start(struct revoke_wait *w)
{
	revoke_wait_in(w, w->n_ids > 0 ? w->d->config->timing.revoke_wait_ms : 0);
}

static void revoke_wait_hear(struct revoke_wait *w, const struct key *k, bool confirmed)
{
	size_t i = revoke_wait_find(w, k);

	if (i == w->n_ids)
		return;
	memcpy(w->ids[i], w->ids[--w->n_ids], ID_SIZE);
	w->failed += !confirmed;
	if (w->n_ids == 0)
		revoke_wait_in(w, 0);
}

void revoke_wait_told(const struct key *k, bool confirmed)
{
	for (struct revoke_wait *w = k->d->revoke_waits; w; w = w->following)
		revoke_wait_hear(w, k, confirmed);
}

void revoke_wait_stop(struct daemon *d)
{
	while (d->revoke_waits)
		revoke_wait_end(d->revoke_waits);
}
