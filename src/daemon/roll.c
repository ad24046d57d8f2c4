/*
 * Who is registered: read at each tick of the leader. A lone leader writes nothing. One that is
 * proven dead is taken out at once; one whose process cannot be seen, when its beat stood still.
 */
#include "daemon/roll.h"

#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "daemon/daemon.h"
#include "daemon/listeners.h"
#include "daemon/start.h"
#include "io/store_instance.h"

#define ROLL_MAX 64 /* more than anybody runs; the rest is looked at when these are gone */

struct roll_entry {
	struct leader row;
	int64_t changed_ms; /* monotonic: its beat was last seen to change */
	bool seen, gone;
};

struct roll {
	struct daemon *d;
	struct roll_entry entries[ROLL_MAX];
	size_t n;
};

struct roll *roll_new(struct daemon *d)
{
	struct roll *r = xcalloc(1, sizeof(*r));

	r->d = d;
	return r;
}

void roll_free(struct roll *r)
{
	free(r);
}

static struct roll_entry *roll_find(struct roll *r, const struct leader *row)
{
	for (size_t i = 0; i < r->n; i++)
		if (strcmp(r->entries[i].row.holder, row->holder) == 0)
			return &r->entries[i];
	if (r->n == ROLL_MAX)
		return NULL;
	return &r->entries[r->n++];
}

static int roll_see(const struct leader *row, void *userdata)
{
	struct roll *r = userdata;
	struct roll_entry *e;
	int64_t now = clock_monotonic_nsec() / 1000000;

	if (strcmp(row->holder, r->d->self.holder) == 0)
		return 0;
	e = roll_find(r, row);
	if (!e)
		return 1;
	if (e->changed_ms == 0 || e->row.beat != row->beat)
		e->changed_ms = now;
	e->row = *row;
	e->seen = true;
	e->gone = strcmp(row->boot_id, r->d->self.boot_id) != 0 ||
		  start_is_dead(row, &r->d->self) ||
		  now - e->changed_ms > r->d->config->timing.instance_forget_ms;
	return 0;
}

static int roll_forget(struct roll *r, const struct leader *row)
{
	int result = store_unregister(r->d->store, row->holder);

	if (result == 0) {
		log_info("instance %s, pid %d, is gone", row->instance, (int)row->pid);
		listeners_forget(r->d->listeners, row);
	}
	return result;
}

int roll_call(struct roll *r)
{
	size_t n = 0;
	int result;

	for (size_t i = 0; i < r->n; i++)
		r->entries[i].seen = false;
	result = store_each_instance(r->d->store, roll_see, r);
	if (result < 0)
		return result;
	result = 0;
	for (size_t i = 0; i < r->n; i++) {
		struct roll_entry *e = &r->entries[i];

		if (e->seen && e->gone)
			result = roll_forget(r, &e->row);
		else if (e->seen)
			r->entries[n++] = *e;
	}
	memset(&r->entries[n], 0, (r->n - n) * sizeof(r->entries[0]));
	r->n = n;
	return n > 0 ? store_beat_leader(r->d->store) : result;
}

const struct leader *roll_get(const struct roll *r, size_t n)
{
	return n < r->n ? &r->entries[n].row : NULL;
}
