/*
 * A key works until its end whether upstream's admin API can be reached or not, and nobody can
 * prolong it meanwhile: so its end is that of whoever lives on it.
 */
#include "daemon/outage.h"

#include <string.h>

#include "base/clock.h"
#include "daemon/daemon.h"
#include "daemon/keys.h"
#include "daemon/pool.h"
#include "daemon/shared.h"

/* A key that somebody has, or that the next caller gets. */
static bool outage_counts(const struct key *k, const char *profile)
{
	return key_is_out(k) && !k->dead && strcmp(k->row.profile, profile) == 0 &&
	       (k->n_leases > 0 || (k->shared && k->shared->current == k) || pool_gives(k));
}

static void outage_add(struct outage *o, int64_t ends_ms)
{
	o->keys++;
	o->endless += ends_ms == 0;
	if (ends_ms == 0)
		return;
	if (o->first_end_ms == 0 || ends_ms < o->first_end_ms)
		o->first_end_ms = ends_ms;
	o->last_end_ms = MAX_OF(o->last_end_ms, ends_ms);
}

static bool outage_serves_new(const struct daemon *d, const struct profile *p)
{
	const struct shared *s;

	if (!p)
		return false;
	if (p->mode == PROFILE_STATIC)
		return true;
	s = p->mode == PROFILE_SHARED ? shared_find(d, p->name) : NULL;
	return s && s->current && !s->current->dead &&
	       key_remaining_ms(s->current, clock_now().wall_ms) > 0;
}

void outage_look(const struct daemon *d, const char *profile, struct outage *ret)
{
	const struct profile *p = config_profile(d->config, profile);

	*ret = (struct outage){ .new_callers = outage_serves_new(d, p) };
	if (p && p->mode == PROFILE_STATIC)
		outage_add(ret, 0);
	for (const struct key *k = keys_first(d->keys); k; k = keys_next(k)) {
		if (!outage_counts(k, profile))
			continue;
		outage_add(ret, k->row.expires_at_ms);
		ret->new_callers = ret->new_callers || pool_gives(k);
	}
}
