/*
 * Notices that the machine slept or that somebody set the wall clock. Timers count neither, and
 * what was worked out from the old wall clock is wrong: leases are looked at again, and upstream is
 * asked again when its keys end.
 */
#pragma once

#include <stdint.h>

struct daemon;

/* The distances between the clocks when they were looked at last. */
struct resume {
	int64_t slept_ms; /* CLOCK_BOOTTIME minus CLOCK_MONOTONIC */
	int64_t wall_ms;  /* CLOCK_REALTIME minus CLOCK_BOOTTIME */
};

void resume_init(struct resume *r);
/* To be called every few seconds. */
void resume_check(struct resume *r, struct daemon *d);
