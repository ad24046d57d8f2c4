/* LiteLLM's durations. Stricter than LiteLLM: what it misreads never reaches it. */
#include "core/duration.h"

#include <errno.h>
#include <string.h>

#define DURATION_MAX_MS (100 * 365 * INT64_C(86400000))

static const struct {
	const char *name;
	int64_t ms;
} duration_units[] = {
	{ "s", 1000 },
	{ "m", 60 * 1000 },
	{ "h", 3600 * 1000 },
	{ "d", INT64_C(86400000) },
	{ "w", 7 * INT64_C(86400000) },
	{ "mo", 30 * INT64_C(86400000) },
};

int duration_parse(const char *text, int64_t *ret_ms)
{
	int64_t count = 0;
	const char *at = text;

	if (*at < '1' || *at > '9')
		return -EINVAL;
	for (; *at >= '0' && *at <= '9'; at++) {
		count = count * 10 + (*at - '0');
		if (count > DURATION_MAX_MS) /* long before it overflows */
			return -EINVAL;
	}
	for (size_t i = 0; i < ARRAY_SIZE(duration_units); i++) {
		if (strcmp(at, duration_units[i].name) != 0)
			continue;
		if (count > DURATION_MAX_MS / duration_units[i].ms)
			return -EINVAL;
		*ret_ms = count * duration_units[i].ms;
		return 0;
	}
	return -EINVAL;
}
