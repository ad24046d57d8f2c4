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

/* Digits behind a point; milliseconds are kept. */
static const char *when_parse_fraction(const char *text, int64_t *ret_ms)
{
	int64_t unit = 100;

	if (*text != '.')
		return text;
	for (text++; *text >= '0' && *text <= '9'; text++, unit /= 10)
		*ret_ms += (*text - '0') * unit;
	return text;
}

/* "Z" or "+hh:mm": how far ahead of UTC. */
static bool when_parse_offset(const char *text, int64_t *ret_ms)
{
	int hours = 0, minutes = 0, n = 0;

	if (strcmp(text, "Z") == 0 || strcmp(text, "z") == 0)
		return true;
	if ((*text != '+' && *text != '-') ||
	    sscanf(text + 1, "%2d:%2d%n", &hours, &minutes, &n) != 2 || n != 5 || text[6] ||
	    hours > 23 || minutes > 59)
		return false;
	*ret_ms = (hours * WHEN_HOUR + minutes * WHEN_MINUTE) * (*text == '-' ? -1 : 1);
	return true;
}

bool when_parse_time(const char *text, int64_t now_ms, int64_t *ret_ms)
{
	struct tm tm = { .tm_isdst = -1 }, checked;
	int64_t ms = 0, ahead_ms = 0;
	const char *end;
	time_t at;

	if (when_parse_duration(text, &ms)) {
		*ret_ms = now_ms - ms;
		return ms <= now_ms;
	}
	end = strptime(text, "%Y-%m-%d", &tm);
	if (end && *end) /* a date alone is its beginning */
		end = strchr("Tt ", *end) ? strptime(end + 1, "%H:%M:%S", &tm) : NULL;
	if (!end)
		return false;
	end = when_parse_fraction(end, &ms);
	checked = tm;
	at = *end ? timegm(&checked) : mktime(&checked);
	/* the 31st of a month that has 30 days has become another day */
	if (checked.tm_mday != tm.tm_mday || (*end && !when_parse_offset(end, &ahead_ms)))
		return false;
	*ret_ms = (int64_t)at * 1000 + ms - ahead_ms;
	return *ret_ms >= 0;
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
	/* what is to come is rounded: 15 minutes that have just begun are not 14 */
	bool round = at_ms > now_ms && steps[i].ms > WHEN_SECOND;
	int64_t n = (distance + (round ? steps[i].ms / 2 : 0)) / steps[i].ms;
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
