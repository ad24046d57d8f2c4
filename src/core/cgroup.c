/*
 * Reads paths as systemd does (sd_pid_get_unit(3)): slices are skipped, then the first name is the
 * unit. Everything below that may be made by the unit itself, so it is not looked at.
 */
#include "core/cgroup.h"

#include <string.h>

#include "base/macros.h"

#define CGROUP_UNIT_CHARS                                      \
	"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" \
	"0123456789:-_.\\@"

static bool cgroup_ends_with(const char *name, const char *suffix)
{
	size_t n = strlen(name), m = strlen(suffix);

	return n > m && strcmp(name + n - m, suffix) == 0;
}

/* A template, "name@.service", runs nothing. */
static bool cgroup_is_name(const char *name)
{
	const char *at = strchr(name, '@');

	return strspn(name, CGROUP_UNIT_CHARS) == strlen(name) && at != name &&
	       !(at && at[1] == '.' && !strchr(at + 2, '.'));
}

bool cgroup_is_unit(const char *name)
{
	static const char *const kinds[] = { ".service", ".scope", ".socket", ".mount", ".swap" };

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (cgroup_ends_with(name, kinds[i]))
			return cgroup_is_name(name);
	return false;
}

/*
 * The next name of the path, which begins with a slash; "" at its end, and for one that is too long
 * for a unit. systemd puts a _ before names that the kernel uses for files of its own.
 */
static void cgroup_next(const char **path, const char *end, char ret[PEER_UNIT_SIZE])
{
	const char *from = *path < end ? *path + 1 : end;
	const char *slash = memchr(from, '/', (size_t)(end - from));
	size_t n;

	*path = slash ? slash : end;
	if (from < *path && *from == '_')
		from++;
	n = (size_t)(*path - from);
	if (n >= PEER_UNIT_SIZE)
		n = 0;
	memcpy(ret, from, n);
	ret[n] = '\0';
}

/* The first name that is no slice, or "" if that cannot be a unit's. */
static void cgroup_unit(const char **path, const char *end, char ret[PEER_UNIT_SIZE])
{
	do {
		cgroup_next(path, end, ret);
	} while (cgroup_ends_with(ret, ".slice") && cgroup_is_name(ret));
	if (!cgroup_is_unit(ret))
		ret[0] = '\0';
}

/* "user@1000.service", and none that only looks like it. */
static bool cgroup_is_user_manager(const char *unit)
{
	size_t n = strncmp(unit, "user@", 5) == 0 ? strspn(unit + 5, "0123456789") : 0;

	return n > 0 && strcmp(unit + 5 + n, ".service") == 0;
}

/* A process outside the reader's cgroup namespace: its path says nothing of units. */
static bool cgroup_leads_out(const char *path, const char *end)
{
	char name[PEER_UNIT_SIZE];

	while (path < end) {
		cgroup_next(&path, end, name);
		if (strcmp(name, "..") == 0)
			return true;
	}
	return false;
}

static const char *cgroup_line(const char *text)
{
	while (text && strncmp(text, "0::/", 4) != 0) {
		text = strchr(text, '\n');
		text = text ? text + 1 : NULL;
	}
	return text ? text + 3 : NULL;
}

void cgroup_units(const char *text, char ret_unit[PEER_UNIT_SIZE],
		  char ret_user_unit[PEER_UNIT_SIZE])
{
	const char *path = cgroup_line(text), *end;

	ret_unit[0] = ret_user_unit[0] = '\0';
	if (!path)
		return;
	end = path + strcspn(path, "\n");
	if (cgroup_leads_out(path, end))
		return;
	cgroup_unit(&path, end, ret_unit);
	if (cgroup_is_user_manager(ret_unit))
		cgroup_unit(&path, end, ret_user_unit);
}
