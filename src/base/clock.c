/* The clocks; these calls cannot fail for the clocks named here. */
#include "base/clock.h"

#include <time.h>

static int64_t clock_msec(clockid_t id)
{
	struct timespec t = { 0 };

	(void)clock_gettime(id, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

struct instant clock_now(void)
{
	return (struct instant){ .wall_ms = clock_msec(CLOCK_REALTIME),
				 .boot_ms = clock_msec(CLOCK_BOOTTIME) };
}

int64_t clock_monotonic_nsec(void)
{
	struct timespec t = { 0 };

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
