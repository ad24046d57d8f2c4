/*
 * When to try again, and when not to ask at all: back-off with jitter, and the breaker. Pure
 * decisions; the time and the random bits are arguments.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/timing.h"

/*
 * The pause before the next attempt, after `attempts` (1, 2, …) have failed: the base doubled each
 * time, half of it fixed and half drawn by `random`, so that many brokers don't come back together;
 * never shorter than what upstream asked for (`retry_after_ms`, 0: nothing), never longer than
 * timing.retry_after_max_ms.
 */
int64_t retry_pause_ms(const struct timing *t, int64_t attempts, int64_t retry_after_ms,
		       uint32_t random);

enum breaker_verdict {
	BREAKER_PASS,
	BREAKER_PROBE,	/* pass; the outcome of this one call decides for all */
	BREAKER_REFUSE, /* don't ask: it has just failed, or a probe is under way */
};

/* Zeroed: closed. Open while the time is before `until_ms`; after that, one probe at a time. */
struct breaker {
	bool open;
	bool probing;
	int64_t until_ms; /* on the clock that the caller gives */
};

/* BREAKER_PROBE makes the caller the probe: it must end with one of the three calls below. */
enum breaker_verdict breaker_ask(struct breaker *b, int64_t now_ms);
/* A call failed in all its attempts: nothing more is asked for `pause_ms`. */
void breaker_failed(struct breaker *b, int64_t now_ms, int64_t pause_ms);
/* Upstream has answered, whatever it said. */
void breaker_answered(struct breaker *b);
/* The probe ended without an outcome (cancelled, fenced): the next call is the probe. */
void breaker_abandoned(struct breaker *b);
/* What remains of the pause; 0 if it is over. */
int64_t breaker_remaining_ms(const struct breaker *b, int64_t now_ms);
