/* Durations as people write them, and times as they read them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WHEN_SIZE 64

/* Exactly [1-9][0-9]*(s|m|h|d|w|mo), a month being 30 days; false for anything else. */
bool when_parse_duration(const char *text, int64_t *ret_ms);
/*
 * A moment in Unix milliseconds: such a duration before `now_ms`, or RFC 3339 (a space may stand
 * for the T; without an offset it is local time). False for anything else.
 */
bool when_parse_time(const char *text, int64_t now_ms, int64_t *ret_ms);
/* "in 14 min", "3 h ago", "now". */
void when_relative(int64_t at_ms, int64_t now_ms, char ret[WHEN_SIZE]);
/* Local time, "2026-11-22 03:17:26". */
void when_local(int64_t at_ms, char ret[WHEN_SIZE]);
/* Both: "2026-11-22 03:17:26 (in 14 min)". */
void when_both(int64_t at_ms, int64_t now_ms, char ret[WHEN_SIZE]);
