/* Looks after the room for the record. */
#include "daemon/space.h"

#include <stdio.h>

#include "base/log.h"
#include "daemon/daemon.h"
#include "io/store_space.h"

#define SPACE_LOW_BYTES ((uint64_t)256 << 20)
#define SPACE_LOW_PART 20 /* a twentieth, if that is more */

static unsigned long long space_mib(uint64_t bytes)
{
	return bytes >> 20;
}

static void space_set(struct space *s, int which, bool on, const char *over)
{
	if (on && !s->on[which])
		log_warning("%s", s->text[which]);
	if (!on && s->on[which])
		log_info("%s", over);
	s->on[which] = on;
}

/* A warning ends only when there is a tenth to spare, so that it does not come and go. */
static void space_judge_large(struct space *s, uint64_t limit, uint64_t used)
{
	bool on = limit > 0 && used > (s->on[SPACE_LARGE] ? limit - limit / 10 : limit);

	(void)snprintf(s->text[SPACE_LARGE], sizeof(s->text[0]),
		       "the state has %llu MiB, and audit_warn_size is %llu MiB: `keybroker audit "
		       "export` its rows, then `keybroker audit prune --before WHEN`",
		       space_mib(used), space_mib(limit));
	space_set(s, SPACE_LARGE, on, "the state is below audit_warn_size again");
}

static void space_judge_low(struct space *s, const char *dir, const struct store_space *found)
{
	uint64_t limit = found->size / SPACE_LOW_PART;

	if (limit < SPACE_LOW_BYTES)
		limit = SPACE_LOW_BYTES;
	if (s->on[SPACE_LOW])
		limit += limit / 10;
	(void)snprintf(s->text[SPACE_LOW], sizeof(s->text[0]),
		       "the file system of %.100s has %llu MiB left: make room, since without a "
		       "record no key is handed out",
		       dir, space_mib(found->free));
	space_set(s, SPACE_LOW, found->free < limit, "the file system of the state has room again");
}

void space_judge(struct space *s, const struct config *c, const struct store_space *found)
{
	space_judge_large(s, (uint64_t)c->audit_warn_size, found->used);
	space_judge_low(s, c->state_dir, found);
}

void space_check(struct daemon *d)
{
	struct store_space found;

	if (store_space(d->store, &found) == 0)
		space_judge(&d->space, d->config, &found); /* else the next look will do */
}

size_t space_warnings(struct space *s, char **ret)
{
	size_t n = 0;

	for (int i = 0; i < SPACE_N_WARNINGS; i++)
		if (s->on[i])
			ret[n++] = s->text[i];
	return n;
}
