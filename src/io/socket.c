/*
 * Listening sockets in the file system. The directory is what protects the path: only its owner may
 * write in it, so nobody can put another socket into our place. Never removes anything but a
 * socket that nobody serves.
 */
#include "io/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"

#define SOCKET_LEADING_MODE 0700

/* Logs why the system refused something, with the path, and passes the error on. */
static int socket_error(const char *what, const char *path, int r)
{
	log_error("%s %s: %s", what, path, strerror(-r));
	return r;
}

/* `mode` holds whatever the umask says, but only for a directory that we made. */
static int socket_make_dir(const char *dir, mode_t mode)
{
	if (mkdir(dir, SOCKET_LEADING_MODE) < 0)
		return errno == EEXIST ? 0 : socket_error("cannot make", dir, -errno);
	if (chmod(dir, mode) < 0)
		return socket_error("cannot set the mode of", dir, -errno);
	return 0;
}

/* mkdir -p; only the last directory gets `mode`. `dir` is cut and mended on the way. */
static int socket_make_dirs(char *dir, mode_t mode)
{
	int r = 0;

	for (char *slash = strchr(dir + 1, '/'); slash && r == 0; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		r = socket_make_dir(dir, SOCKET_LEADING_MODE);
		*slash = '/';
	}
	return r < 0 ? r : socket_make_dir(dir, mode);
}

/* Opens the directory and checks that nobody but root and us can put something into it. */
static int socket_open_dir(const char *dir, int *ret_fd)
{
	_cleanup_(fd_close) int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return socket_error("cannot open", dir, -errno);
	if (fstat(fd, &st) < 0)
		return err_origin(-errno);
	if (st.st_uid != geteuid() && st.st_uid != 0) {
		log_error("%s belongs to uid %u: it must be our own or root's", dir,
			  (unsigned)st.st_uid);
		return SOCKET_E_ACCESS;
	}
	if (st.st_mode & (S_IWGRP | S_IWOTH)) {
		log_error(
			"%s can be written by others (mode %04o): use a directory of mode 0755 or "
			"less",
			dir, (unsigned)(st.st_mode & 07777));
		return SOCKET_E_ACCESS;
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

/* Does anybody answer there? A full backlog and a socket of another type are answers too. */
static int socket_probe(const struct sockaddr_un *address)
{
	_cleanup_(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return err_origin(-errno);
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0)
		return SOCKET_E_SERVED;
	switch (errno) {
	case ECONNREFUSED:
	case ENOENT:
		return 0;
	case EAGAIN:
	case EPROTOTYPE:
		return SOCKET_E_SERVED;
	case EACCES:
	case EPERM:
		log_error("%s belongs to somebody else: cannot tell whether it is served",
			  address->sun_path);
		return SOCKET_E_ACCESS;
	default:
		return socket_error("cannot connect to", address->sun_path, -errno);
	}
}

bool socket_is_served(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(address.sun_path))
		return false;
	memcpy(address.sun_path, path, strlen(path));
	return socket_probe(&address) == SOCKET_E_SERVED;
}

/* Only the leader gets here, one at a time: two that clear the same path would unlink each other.
 */
static int socket_clear_path(int dir_fd, const char *name, const struct sockaddr_un *address)
{
	struct stat st;
	int r;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : socket_error("cannot see", address->sun_path, -errno);
	if (!S_ISSOCK(st.st_mode)) {
		log_error("%s is there and not a socket: it stays", address->sun_path);
		return SOCKET_E_ACCESS;
	}
	r = socket_probe(address);
	if (r != 0)
		return r;
	if (unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT)
		return socket_error("cannot remove the dead socket", address->sun_path, -errno);
	return 0;
}

/* Until listen() nobody can connect, so it doesn't matter what the umask made of the mode. */
static int socket_open_up(int fd, const char *path, mode_t mode, gid_t group)
{
	if (group != (gid_t)-1 && lchown(path, (uid_t)-1, group) < 0)
		return socket_error("cannot set the group of", path, -errno);
	if (chmod(path, mode) < 0)
		return socket_error("cannot set the mode of", path, -errno);
	if (listen(fd, SOCKET_BACKLOG) < 0)
		return socket_error("cannot listen on", path, -errno);
	return 0;
}

static int socket_bind(const struct sockaddr_un *address, mode_t mode, gid_t group, int *ret_fd)
{
	_cleanup_(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r;

	if (fd < 0)
		return err_origin(-errno);
	if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
		return socket_error("cannot bind", address->sun_path, -errno);
	r = socket_open_up(fd, address->sun_path, mode, group);
	if (r < 0) {
		(void)unlink(address->sun_path); /* ours, and of no use; the error is reported */
		return r;
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

/* Splits "/a/b/c.sock" into the directory, which the caller frees, and the name within `path`. */
static char *socket_split(const char *path, const char **ret_name)
{
	const char *slash = strrchr(path, '/');

	*ret_name = slash ? slash + 1 : path;
	if (!slash)
		return xstrdup(".");
	return slash == path ? xstrdup("/") : xasprintf("%.*s", (int)(slash - path), path);
}

int socket_listen(const char *path, mode_t dir_mode, mode_t mode, gid_t group, int *ret_fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	_cleanup_(fd_close) int dir_fd = -1;
	_cleanup_(freep) char *dir = NULL;
	const char *name;
	int r;

	if (strlen(path) >= sizeof(address.sun_path)) {
		log_error("%s: the path of a socket has at most %zu bytes", path,
			  sizeof(address.sun_path) - 1);
		return -ENAMETOOLONG;
	}
	memcpy(address.sun_path, path, strlen(path));
	dir = socket_split(path, &name);
	r = socket_make_dirs(dir, dir_mode);
	if (r < 0)
		return r;
	r = socket_open_dir(dir, &dir_fd);
	if (r != 0)
		return r;
	r = socket_clear_path(dir_fd, name, &address);
	if (r != 0)
		return r;
	return socket_bind(&address, mode, group, ret_fd);
}

bool socket_is_public(const char *path)
{
	_cleanup_(freep) char *dir = xstrdup(path);
	struct stat st;

	for (char *slash = strrchr(dir, '/'); slash && slash > dir; slash = strrchr(dir, '/')) {
		*slash = '\0';
		if (stat(dir, &st) == 0 && !(st.st_mode & S_IXOTH))
			return false;
	}
	return true;
}
