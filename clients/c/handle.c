/* Opening and closing a handle, its lock, and finding a socket that accepts. */
#include "clients/c/handle.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "clients/c/credential.h"
#include "clients/c/exchange.h"
#include "clients/c/fault.h"
#include "clients/c/fork.h"
#include "clients/c/loop.h"
#include "clients/c/trust.h"
#include "proto/message.h"

#define HANDLE_GROUP_MAX 16384	/* of the group database; of a longer one no name is told */
enum { HANDLE_NO_GID = 65534 }; /* the kernel's word for one that this user namespace lacks */

/* --- connecting --- */

static void handle_note_tried(struct keybroker_error *e, const char *path, int error)
{
	size_t n = strlen(e->message);

	(void)snprintf(e->message + n, sizeof(e->message) - n, "%s %s: %s", e->n_tried ? ";" : ":",
		       path, fault_why_not(error)); /* may be cut */
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
	struct group entry, *group = NULL;
	char names[HANDLE_GROUP_MAX];
	struct stat st;

	if (!fault_is_access(e))
		return;
	if (stat(handle_closed(e), &st) == 0 && (st.st_mode & S_IWGRP) && st.st_gid != 0 &&
	    st.st_gid != HANDLE_NO_GID)
		(void)getgrgid_r(st.st_gid, &entry, names, sizeof(names), &group); /* or no name */
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
			       "your own with `keybrokerd`, or name another by "
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

static enum keybroker_code handle_is_full(const char *path, struct keybroker_error *e)
{
	(void)fault_set(e, KEYBROKER_TIMEOUT, "%s: too many wait to be accepted", path);
	return KEYBROKER_PENDING;
}

static enum keybroker_code handle_try(struct keybroker *k, const char *path, int *ret_error,
				      struct keybroker_error *e)
{
	*ret_error = handle_why_not(path, -wire_connect(&k->wire, path));
	if (*ret_error == ENOMEM)
		return fault_set(e, KEYBROKER_NO_MEMORY, "no memory");
	if (*ret_error == EAGAIN)
		return handle_is_full(path, e);
	if (*ret_error != 0)
		return KEYBROKER_OK;
	/* the directory is looked at afterwards: whoever can write there can also swap the socket
	 */
	enum keybroker_code code = trust_server(k->wire.fd, path, e);
	if (code == KEYBROKER_OK)
		code = trust_directory(path, e);
	if (code != KEYBROKER_OK)
		wire_close(&k->wire, false);
	else
		k->path = path;
	return code;
}

enum keybroker_code handle_connect(struct keybroker *k, struct keybroker_error *e)
{
	const char *const *paths = k->path ? &k->path : (const char *const *)k->paths.path;
	size_t n = k->path ? 1 : k->paths.n;

	(void)fault_set(e, KEYBROKER_UNREACHABLE, "no broker accepts connections%s",
			k->admin ? " on its admin socket" : "");
	for (size_t i = 0; i < n; i++) {
		int error = 0;
		enum keybroker_code code = handle_try(k, paths[i], &error, e);

		if (code != KEYBROKER_OK)
			return code;
		if (error == 0) {
			k->answered = false;
			k->met = true;
			return KEYBROKER_OK;
		}
		handle_note_tried(e, paths[i], error);
	}
	if (k->admin)
		(void)snprintf(e->advice, sizeof(e->advice),
			       "Start one with `keybrokerd`, or name its admin socket by "
			       "--admin-socket or KEYBROKER_ADMIN_SOCKET.");
	handle_advise_access(k, e);
	return KEYBROKER_UNREACHABLE;
}

void handle_disconnect(struct keybroker *k)
{
	if (k->wire.fd >= 0)
		loop_forget(k);
	wire_close(&k->wire, k->inherited);
	message_free(TAKE(k->heard));
}

enum keybroker_code keybroker_connect(struct keybroker *k, struct keybroker_error *ret_error)
{
	/* the first request would wait for room in a backlog, too: that is left to it */
	enum keybroker_code code = KEYBROKER_OK;

	handle_lock(k);
	if (k->wire.fd < 0) {
		code = handle_connect(k, &k->failure);
		if (code == KEYBROKER_OK) {
			k->began_ms = wire_now_ms();
			credential_met(k);
		}
	}
	code = code == KEYBROKER_OK || code == KEYBROKER_PENDING
		       ? KEYBROKER_OK
		       : handle_report(k, &k->failure, ret_error);
	handle_unlock(k);
	return code;
}

enum keybroker_code handle_report(const struct keybroker *k, const struct keybroker_error *e,
				  struct keybroker_error *ret)
{
	const char *path = k->path ? k->path : k->paths.path[0];

	if (ret && ret != e)
		*ret = *e;
	if (ret && !ret->socket[0])
		(void)snprintf(ret->socket, sizeof(ret->socket), "%s", path);
	return e->code;
}

/* --- the lock --- */

void handle_lock(struct keybroker *k)
{
	(void)pthread_mutex_lock(&k->lock); /* cannot fail for a mutex of this kind */
	if (!k->inherited)
		return;
	loop_close(k);
	exchange_drop(k);
	credential_drop(k);
	k->inherited = k->polled = k->listening = false;
	k->n_waiting = 0;
	k->lost_at_ms = k->retry_at_ms = k->pause_ms = 0;
}

void handle_unlock(struct keybroker *k)
{
	loop_arm(k);
	(void)pthread_mutex_unlock(&k->lock);
}

/* --- opening and closing --- */

void handle_init_moved(struct keybroker *k)
{
	pthread_condattr_t attr;

	/* none of these fails in glibc, with this clock */
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&k->moved, &attr);
	(void)pthread_condattr_destroy(&attr);
}

static struct keybroker *handle_new(const struct keybroker_options *o)
{
	struct keybroker *k = calloc(1, sizeof(*k));

	if (!k)
		return NULL;
	k->wire = WIRE_INIT;
	k->epoll_fd = k->timer_fd = -1;
	k->timeout_ms = o->timeout_ms;
	k->ack_after_ms = o->ack_after_ms;
	k->log = o->log;
	k->log_data = o->log_data;
	(void)pthread_mutex_init(&k->lock, NULL); /* cannot fail for a mutex of this kind */
	handle_init_moved(k);
	fork_note(k);
	return k;
}

static enum keybroker_code handle_open(struct keybroker **ret, const struct keybroker_options *o,
				       bool admin, const char *admin_socket,
				       struct keybroker_error *e)
{
	static const struct keybroker_options defaults;
	struct keybroker *k = handle_new(o ? o : &defaults);
	const char *socket = o ? o->socket : NULL;
	int r = -ENOMEM;

	if (k)
		r = admin ? find_admin_sockets(&k->paths, admin_socket, socket)
			  : find_sockets(&k->paths, socket);
	if (r < 0) {
		keybroker_close(k);
		(void)fault_set(e, KEYBROKER_NO_MEMORY, "no memory");
		return KEYBROKER_NO_MEMORY;
	}
	k->admin = admin;
	*ret = k;
	return KEYBROKER_OK;
}

enum keybroker_code keybroker_open(struct keybroker **ret, const struct keybroker_options *options,
				   struct keybroker_error *ret_error)
{
	return handle_open(ret, options, false, NULL, ret_error);
}

enum keybroker_code call_open(struct keybroker **ret, const struct keybroker_options *options,
			      bool admin, const char *admin_socket,
			      struct keybroker_error *ret_error)
{
	_cleanup_(keybroker_closep) struct keybroker *k = NULL;
	enum keybroker_code code = handle_open(&k, options, admin, admin_socket, ret_error);

	if (code == KEYBROKER_OK)
		code = keybroker_connect(k, ret_error);
	if (code == KEYBROKER_OK)
		*ret = TAKE(k);
	return code;
}

void keybroker_close(struct keybroker *k)
{
	if (!k)
		return;
	credential_release(k);
	handle_lock(k);
	exchange_drop(k);
	credential_drop(k);
	keybroker_lease_free(k->environment);
	loop_close(k);
	handle_unlock(k);
	fork_forget(k);
	find_deinit(&k->paths);
	(void)pthread_cond_destroy(&k->moved);
	(void)pthread_mutex_destroy(&k->lock);
	explicit_bzero(k, sizeof(*k));
	free(k);
}

const char *keybroker_socket_path(struct keybroker *k)
{
	handle_lock(k);
	const char *path = k->path;
	handle_unlock(k);
	return path;
}
