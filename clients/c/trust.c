/*
 * The check of the server: a socket that anybody could have put there would be given our requests,
 * and its keys and base URL would be believed. Decided by uid alone: our own, root's, the broker's.
 */
#include "clients/c/trust.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "clients/c/fault.h"

#define TRUST_USER "keybroker"
#define TRUST_ENTRY_MAX 4096 /* of the user database; a longer one is not ours */

/* The uid of the broker's own user: KEYBROKER_SERVER_UID, else the user database. */
static bool trust_broker_uid(uid_t *ret)
{
	const char *text = secure_getenv("KEYBROKER_SERVER_UID");
	char *end = NULL;

	if (text && *text) {
		errno = 0;
		unsigned long long uid = strtoull(text, &end, 10);
		if (errno != 0 || *end || text[0] == '-' || uid >= (uid_t)-1)
			return false;
		*ret = (uid_t)uid;
		return true;
	}
	/* not getpwnam(): another thread's answer would be in its buffer */
	struct passwd entry, *user = NULL;
	char names[TRUST_ENTRY_MAX];

	if (getpwnam_r(TRUST_USER, &entry, names, sizeof(names), &user) != 0 || !user)
		return false;
	*ret = entry.pw_uid;
	return true;
}

static bool trust_uid(uid_t uid)
{
	uid_t broker = (uid_t)-1;

	/* the user database is slow to ask, and seldom needed */
	return uid == geteuid() || uid == 0 || (trust_broker_uid(&broker) && uid == broker);
}

static int trust_open_directory(const char *socket_path)
{
	_cleanup_(freep) char *dir = NULL;
	const char *slash = strrchr(socket_path, '/');

	if (!slash)
		return open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	dir = strndup(socket_path, slash == socket_path ? 1 : (size_t)(slash - socket_path));
	return dir ? open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
}

enum keybroker_code trust_directory(const char *socket_path, struct keybroker_error *e)
{
	_cleanup_(fd_close) int fd = trust_open_directory(socket_path);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return fault_set(e, KEYBROKER_UNTRUSTED,
				 "%s: its directory cannot be looked at: %s", socket_path,
				 strerrordesc_np(errno));
	if ((st.st_mode & (S_IWGRP | S_IWOTH)) && !(st.st_mode & S_ISVTX))
		return fault_set(
			e, KEYBROKER_UNTRUSTED,
			"%s: others can write to its directory (mode %03o), so anybody could "
			"serve there",
			socket_path, st.st_mode & 0777u);
	if (!trust_uid(st.st_uid))
		return fault_set(
			e, KEYBROKER_UNTRUSTED,
			"%s: its directory belongs to uid %u, which is neither you, root nor "
			"the user " TRUST_USER,
			socket_path, st.st_uid);
	return KEYBROKER_OK;
}

enum keybroker_code trust_server(int fd, const char *socket_path, struct keybroker_error *e)
{
	struct ucred cred = { .uid = (uid_t)-1 };
	socklen_t n = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0)
		return fault_set(e, KEYBROKER_UNTRUSTED, "%s: who serves it cannot be told: %s",
				 socket_path, strerror(errno));
	if (!trust_uid(cred.uid))
		return fault_set(
			e, KEYBROKER_UNTRUSTED,
			"%s: served by uid %u, which is neither you, root nor the user " TRUST_USER,
			socket_path, cred.uid);
	return KEYBROKER_OK;
}
