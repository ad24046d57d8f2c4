/* LiteLLM's durations, as far as the broker lets them through: exactly [1-9][0-9]*(s|m|h|d|w|mo).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

/*
 * -EINVAL for anything else ("1h30m", "500ms" and "30" mean something unexpected to LiteLLM) and
 * for more than 100 years; not logged, the caller names the place. A month counts as 30 days here:
 * good for bounds, never for an expiry.
 */
int duration_parse(const char *text, int64_t *ret_ms) _must_check_;
