/* Durations and times. Reads no clock: the caller says what time it is. */
#include "cli/when.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/macros.h"

enum { WHEN_SECOND = 1000, WHEN_MINUTE = 60 * WHEN_SECOND, WHEN_HOUR = 60 * WHEN_MINUTE };

#define WHEN_DAY ((int64_t)24 * WHEN_HOUR)

static const struct {
	const char *suffix;
	int64_t ms;
} when_units[] = {
	{ "s", WHEN_SECOND }, { "m", WHEN_MINUTE },  { "h", WHEN_HOUR },
	{ "d", WHEN_DAY },    { "w", 7 * WHEN_DAY }, { "mo", 30 * WHEN_DAY },
};

bool when_parse_duration(const char *text, int64_t *ret_ms)
{
	int64_t n = 0, ms;

	if (*text < '1' || *text > '9')
		return false;
	for (; *text >= '0' && *text <= '9'; text++)
		if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, *text - '0', &n))
			return false;
	for (size_t i = 0; i < ARRAY_SIZE(when_units); i++) {
		if (strcmp(text, when_units[i].suffix) != 0)
			continue;
		if (__builtin_mul_overflow(n, when_units[i].ms, &ms))
			return false;
		*ret_ms = ms;
		return true;
	}
	return false;
}

void when_relative(int64_t at_ms, int64_t now_ms, char ret[WHEN_SIZE])
{
	static const struct {
		int64_t ms;
		const char *name;
	} steps[] = {
		{ WHEN_DAY, "d" }, { WHEN_HOUR, "h" }, { WHEN_MINUTE, "min" }, { WHEN_SECOND, "s" }
	};
	int64_t distance = at_ms > now_ms ? at_ms - now_ms : now_ms - at_ms;
	size_t i = 0;

	/* the next smaller unit until there are two of it: "90 min" says more than "1 h" */
	while (i + 1 < ARRAY_SIZE(steps) && distance < 2 * steps[i].ms)
		i++;
	int64_t n = distance / steps[i].ms;
	if (n == 0)
		(void)snprintf(ret, WHEN_SIZE, "now");
	else if (at_ms > now_ms)
		(void)snprintf(ret, WHEN_SIZE, "in %lld %s", (long long)n, steps[i].name);
	else
		(void)snprintf(ret, WHEN_SIZE, "%lld %s ago", (long long)n, steps[i].name);
}

void when_local(int64_t at_ms, char ret[WHEN_SIZE])
{
	time_t seconds = (time_t)(at_ms / 1000);
	struct tm tm;

	if (!localtime_r(&seconds, &tm) || strftime(ret, WHEN_SIZE, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		(void)snprintf(ret, WHEN_SIZE, "%lld ms", (long long)at_ms);
}

void when_both(int64_t at_ms, int64_t now_ms, char ret[WHEN_SIZE])
{
	char local[WHEN_SIZE], relative[WHEN_SIZE];

	when_local(at_ms, local);
	when_relative(at_ms, now_ms, relative);
	(void)snprintf(ret, WHEN_SIZE, "%.30s (%.30s)", local, relative);
}
