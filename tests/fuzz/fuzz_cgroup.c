/* Fuzzes the reader of /proc/PID/cgroup: what it yields is a unit's name that the text holds,
 * behind nothing but slices. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "core/cgroup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void fuzz_check(const char *unit, const char *text)
{
	if (*unit && (!cgroup_is_unit(unit) || !strstr(text, unit) || strstr(text, "0::/") == NULL))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	_cleanup_(freep) char *text = xcalloc(n + 1, 1);
	char unit[PEER_UNIT_SIZE], user_unit[PEER_UNIT_SIZE];

	memcpy(text, data, n);
	cgroup_units(text, unit, user_unit);
	fuzz_check(unit, text);
	fuzz_check(user_unit, text);
	if (*user_unit && strncmp(unit, "user@", 5) != 0)
		abort();
	return 0;
}
