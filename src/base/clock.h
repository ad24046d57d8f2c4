/* The clocks. The core never reads them: it is given the time. */
#pragma once

#include <stdint.h>

/* The two times of one moment, both in milliseconds. */
struct instant {
	int64_t wall_ms; /* Unix time, CLOCK_REALTIME: what people and LiteLLM mean */
	int64_t boot_ms; /* CLOCK_BOOTTIME: never set back, counts sleep; deadlines are in it */
};

struct instant clock_now(void);
/* Nanoseconds of CLOCK_MONOTONIC, for measuring. */
int64_t clock_monotonic_nsec(void);
