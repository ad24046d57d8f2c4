/* Opening, connecting and closing a handle. */
#include "clients/c/handle.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "clients/c/call.h"
#include "clients/c/fault.h"
#include "clients/c/trust.h"

enum {
	HANDLE_CONNECT_MS = 10000,
	HANDLE_NO_GID = 65534, /* the kernel's word for one that this user namespace lacks */
};

static void handle_note_tried(struct keybroker_error *e, const char *path, int error)
{
	if (!e || e->n_tried == KEYBROKER_TRIED_MAX)
		return;
	(void)snprintf(e->tried[e->n_tried].path, sizeof(e->tried[0].path), "%s", path);
	e->tried[e->n_tried++].error = error;
}

/* The first socket that is closed to us: the one that would have been used. */
static const char *handle_closed(const struct keybroker_error *e)
{
	for (size_t i = 0; i < e->n_tried; i++)
		if (e->tried[i].error == EACCES)
			return e->tried[i].path;
	return "";
}

/* What a refusal by file mode asks for differs from what a missing broker does. Only a socket that
 * is made for a group asks for its members; any other is its owner's own. */
static void handle_advise_access(const struct keybroker *k, struct keybroker_error *e)
{
	const struct group *group = NULL;
	struct stat st;

	if (!e || !fault_is_access(e))
		return;
	if (stat(handle_closed(e), &st) == 0 && (st.st_mode & S_IWGRP) && st.st_gid != 0 &&
	    st.st_gid != HANDLE_NO_GID)
		group = getgrgid(st.st_gid);
	if (k->admin)
		(void)snprintf(e->advice, sizeof(e->advice),
			       "The admin socket is for the broker's own user and root: use sudo.");
	else if (group)
		(void)snprintf(e->advice, sizeof(e->advice),
			       "Permission denied: join the group %s (`sudo usermod -aG %s $USER`, "
			       "then log in again), or start a broker of your own with "
			       "`keybrokerd`.",
			       group->gr_name, group->gr_name);
	else
		(void)snprintf(e->advice, sizeof(e->advice),
			       "Permission denied: that broker is its owner's alone. Start one of "
			       "your own with `keybrokerd`, or name another by --socket or "
			       "KEYBROKER_SOCKET.");
}

/* connect() says of another file that it is closed, or that nobody listens. */
static int handle_why_not(const char *path, int error)
{
	struct stat st;

	if ((error == EACCES || error == ECONNREFUSED) && stat(path, &st) == 0 &&
	    !S_ISSOCK(st.st_mode))
		return ENOTSOCK;
	return error;
}

static enum keybroker_code handle_try(struct keybroker *k, const char *path, int64_t deadline_ms,
				      int *ret_error, struct keybroker_error *e)
{
	*ret_error = handle_why_not(path, -wire_connect(&k->wire, path, deadline_ms));
	if (*ret_error == ENOMEM)
		return fault_set(e, KEYBROKER_NO_MEMORY, "no memory");
	if (*ret_error != 0)
		return KEYBROKER_OK;
	/* the directory is looked at afterwards: whoever can write there can also swap the socket
	 */
	enum keybroker_code code = trust_server(k->wire.fd, path, e);
	if (code == KEYBROKER_OK)
		code = trust_directory(path, e);
	if (code != KEYBROKER_OK)
		wire_close(&k->wire);
	else
		k->path = path;
	k->answered = false;
	return code;
}

enum keybroker_code handle_connect(struct keybroker *k, int64_t deadline_ms,
				   struct keybroker_error *e)
{
	const char *const *paths = k->path ? &k->path : (const char *const *)k->paths.path;
	size_t n = k->path ? 1 : k->paths.n;

	if (k->wire.fd >= 0)
		return KEYBROKER_OK;
	(void)fault_set(e, KEYBROKER_UNREACHABLE, "no broker accepts connections%s",
			k->admin ? " on its admin socket" : "");
	for (size_t i = 0; i < n; i++) {
		int error = 0;
		enum keybroker_code code = handle_try(k, paths[i], deadline_ms, &error, e);

		if (code != KEYBROKER_OK || error == 0)
			return code;
		handle_note_tried(e, paths[i], error);
	}
	if (e && k->admin)
		(void)snprintf(e->advice, sizeof(e->advice),
			       "Start one with `keybrokerd`, or name its admin socket by "
			       "--admin-socket or KEYBROKER_ADMIN_SOCKET.");
	handle_advise_access(k, e);
	return KEYBROKER_UNREACHABLE;
}

enum keybroker_code keybroker_open(struct keybroker **ret, const struct keybroker_options *options,
				   struct keybroker_error *ret_error)
{
	static const struct keybroker_options defaults = { 0 };
	_cleanup_(keybroker_closep) struct keybroker *k = calloc(1, sizeof(*k));
	const struct keybroker_options *o = options ? options : &defaults;

	if (!k)
		return fault_set(ret_error, KEYBROKER_NO_MEMORY, "no memory");
	k->wire = WIRE_INIT;
	k->admin = o->admin;
	k->timeout_ms = o->timeout_ms;
	if (find_sockets(&k->paths, o) < 0)
		return fault_set(ret_error, KEYBROKER_NO_MEMORY, "no memory");
	int64_t wait = o->timeout_ms > 0 ? o->timeout_ms : HANDLE_CONNECT_MS;
	enum keybroker_code code = handle_connect(k, wire_now_ms() + wait, ret_error);
	if (code == KEYBROKER_OK)
		*ret = TAKE(k);
	return code;
}

void keybroker_close(struct keybroker *k)
{
	if (!k)
		return;
	wire_close(&k->wire);
	find_deinit(&k->paths);
	free(k);
}

const char *keybroker_socket_path(const struct keybroker *k)
{
	return k->path;
}
