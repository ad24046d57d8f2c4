/* Compares the clocks with each other. NTP's slewing stays far below the tolerance between two
 * looks. */
#include "daemon/resume.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/daemon.h"
#include "daemon/keys.h"
#include "daemon/leases.h"

#define RESUME_TOLERANCE_MS 2000

static struct resume resume_now(void)
{
	struct instant now = clock_now();

	return (struct resume){ .slept_ms = now.boot_ms - clock_monotonic_nsec() / 1000000,
				.wall_ms = now.wall_ms - now.boot_ms };
}

void resume_init(struct resume *r)
{
	*r = resume_now();
}

static void resume_look_again(struct daemon *d)
{
	struct key *k, *next;

	for (struct lease *l = leases_first(d->leases); l; l = leases_next(l))
		lease_look_again(l);
	for (k = keys_first(d->keys); k; k = next) {
		next = keys_next(k);
		if (k->row.state == KEY_LIVE)
			k->checked = false;
		else if (k->row.state == KEY_RETIRING)
			k->recheck_at_ms = 1; /* now, if a lease holds it */
		k->drive_at_ms = 0;	      /* its timer counted other seconds */
		key_drive(k);
	}
}

void resume_check(struct resume *r, struct daemon *d)
{
	struct resume now = resume_now();
	int64_t slept = now.slept_ms - r->slept_ms;
	int64_t moved = now.wall_ms - r->wall_ms;

	*r = now;
	if (llabs(slept) < RESUME_TOLERANCE_MS && llabs(moved) < RESUME_TOLERANCE_MS)
		return;
	log_info(
		"the machine slept %lld s, the clock moved by %lld s: leases and keys are looked at again",
		(long long)slept / 1000, (long long)moved / 1000);
	resume_look_again(d);
}
