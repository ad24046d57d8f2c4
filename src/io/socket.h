/* Listening UNIX sockets in the file system. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/macros.h"

#define SOCKET_BACKLOG 4096 /* clients that connect while there is no leader wait here */

enum socket_outcome {
	SOCKET_E_SERVED = 1, /* somebody else answers on this path */
	SOCKET_E_ACCESS,     /* the directory's owner or mode will not do; the reason was logged */
};

/*
 * Makes the directory if missing (mode `dir_mode`), checks that it is ours or root's and not
 * writable by others, replaces a dead socket, binds and listens (non-blocking, close-on-exec). The
 * socket file gets `mode` and, unless it is (gid_t)-1, `group`. SOCKET_E_*; -errno.
 */
int socket_listen(const char *path, mode_t dir_mode, mode_t mode, gid_t group,
		  int *ret_fd) _must_check_;
/* Do the modes of all directories above it let everybody through? */
bool socket_is_public(const char *path);
/* Does somebody answer on this path? */
bool socket_is_served(const char *path);
