/* The search order for the broker's sockets, as proto/PROTOCOL.md has it. Touches no file. */
#include "clients/c/find.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int find_add(struct find_paths *p, const char *fmt, ...) _printf_(2, 3);
static int find_add(struct find_paths *p, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	int r = vasprintf(&p->path[p->n], fmt, args);
	va_end(args);
	if (r < 0)
		return -ENOMEM;
	p->n++;
	return 0;
}

const char *find_env(const char *name)
{
	const char *value = secure_getenv(name);

	return value && *value ? value : NULL;
}

static const char *find_strip_scheme(const char *path)
{
	static const char scheme[] = "unix://";

	return strncmp(path, scheme, sizeof(scheme) - 1) == 0 ? path + sizeof(scheme) - 1 : path;
}

static int find_add_state_dir(struct find_paths *p)
{
	const char *state = find_env("XDG_STATE_HOME"), *home = find_env("HOME");

	if (state)
		return find_add(p, "%s/keybroker/keybroker.sock", state);
	return home ? find_add(p, "%s/.local/state/keybroker/keybroker.sock", home) : 0;
}

static int find_add_sockets(struct find_paths *p, const char *given)
{
	const char *runtime = find_env("XDG_RUNTIME_DIR");
	int r;

	if (!given)
		given = find_env("KEYBROKER_SOCKET");
	/* who names a socket means that one: another broker would hand out other keys */
	if (given)
		return find_add(p, "%s", find_strip_scheme(given));
	if (runtime) {
		r = find_add(p, "%s/keybroker/keybroker.sock", runtime);
	} else {
		r = find_add(p, "/run/user/%u/keybroker/keybroker.sock", geteuid());
		if (r >= 0)
			r = find_add_state_dir(p);
	}
	return r < 0 ? r : find_add(p, "/run/keybroker/keybroker.sock");
}

/* Turns <dir>/keybroker/keybroker.sock into <dir>/keybroker-admin/admin.sock. */
static int find_beside(char **path)
{
	char *slash = strrchr(*path, '/');
	char *admin;

	if (slash)
		*slash = '\0';
	char *parent = slash ? strrchr(*path, '/') : NULL;
	if (parent)
		parent[1] = '\0';
	/* a relative path may have no directory to stand beside */
	if (asprintf(&admin, "%skeybroker-admin/admin.sock",
		     parent  ? *path
		     : slash ? ""
			     : "../") < 0)
		return -ENOMEM;
	free(*path);
	*path = admin;
	return 0;
}

int find_sockets(struct find_paths *ret, const char *given)
{
	*ret = (struct find_paths){ .n = 0 };
	return find_add_sockets(ret, given);
}

int find_admin_sockets(struct find_paths *ret, const char *given, const char *client)
{
	*ret = (struct find_paths){ .n = 0 };
	if (!given)
		given = find_env("KEYBROKER_ADMIN_SOCKET");
	if (given)
		return find_add(ret, "%s", find_strip_scheme(given));
	int r = find_add_sockets(ret, client);
	for (size_t i = 0; r >= 0 && i < ret->n; i++)
		r = find_beside(&ret->path[i]);
	return r;
}

void find_deinit(struct find_paths *p)
{
	for (size_t i = 0; i < p->n; i++)
		free(p->path[i]);
	p->n = 0;
}
