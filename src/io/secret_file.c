/*
 * Reads a secret from a file that nobody else can read. Symbolic links are followed: Kubernetes and
 * systemd mount secrets as links, the check is of the opened file itself, and whoever could plant a
 * link can only point at files that this process may read and that pass the same check.
 */
#include "io/secret_file.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/crypt.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/secret.h"

#define SECRET_FILE_WHY_MAX 512

static int secret_file_refuse(char *ret_why, int outcome, const char *fmt, ...) _printf_(3, 4);
static int secret_file_refuse(char *ret_why, int outcome, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(ret_why, SECRET_FILE_WHY_MAX, fmt, ap); /* a long path may be cut */
	va_end(ap);
	return outcome;
}

/* Root with a service's file is the wrong user; giving the file to root would lock the service out.
 */
static int secret_file_foreign(const char *path, uid_t owner, char *ret_why)
{
	const struct passwd *user = geteuid() == 0 ? getpwuid(owner) : NULL;

	if (user)
		return secret_file_refuse(
			ret_why, SECRET_FILE_E_REFUSED,
			"%s belongs to the user %s (uid %u), not to root: run this "
			"as that user (runuser -u %s -- keybrokerd …)",
			path, user->pw_name, owner, user->pw_name);
	return secret_file_refuse(ret_why, SECRET_FILE_E_REFUSED,
				  "%s belongs to uid %u, who can change it, not to uid %u who runs "
				  "this: run it as that user, or let the file be its own",
				  path, owner, geteuid());
}

/* `credential`: systemd opens them to the unit's own group on some versions (0440, root's). */
static int secret_file_check(int fd, const char *path, uid_t owner, bool credential, char *ret_why)
{
	mode_t forbidden = credential ? S_IWGRP | S_IRWXO : S_IRWXG | S_IRWXO;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_origin(-errno);
	if (!S_ISREG(st.st_mode))
		return secret_file_refuse(ret_why, SECRET_FILE_E_REFUSED, "%s is no regular file",
					  path);
	if (st.st_uid != owner && st.st_uid != geteuid() && st.st_uid != 0)
		return secret_file_foreign(path, st.st_uid, ret_why);
	if (st.st_mode & forbidden)
		return secret_file_refuse(ret_why, SECRET_FILE_E_REFUSED,
					  "%s has mode %04o and is open to others: chmod 600 %s",
					  path, st.st_mode & 07777, path);
	return 0;
}

/* Up to `size` bytes; a file that is longer fills `size`. */
static ssize_t secret_file_fill(int fd, char *bytes, size_t size)
{
	size_t n = 0;

	while (n < size) {
		ssize_t got = read(fd, bytes + n, size - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_origin(-errno);
		if (got == 0)
			break;
		n += (size_t)got;
	}
	return (ssize_t)n;
}

static int secret_file_take(const char *path, const char *bytes, size_t n, struct secret **ret,
			    char *ret_why)
{
	if (n > SECRET_MAX)
		return secret_file_refuse(ret_why, SECRET_FILE_E_REFUSED,
					  "%s is longer than %d bytes: no secret is", path,
					  SECRET_MAX);
	if (n && bytes[n - 1] == '\n')
		n--;
	if (n && bytes[n - 1] == '\r')
		n--;
	if (n == 0)
		return secret_file_refuse(ret_why, SECRET_FILE_E_REFUSED, "%s is empty", path);
	/* a space or line break would end up in a header */
	for (size_t i = 0; i < n; i++)
		if (bytes[i] <= ' ' || bytes[i] > '~')
			return secret_file_refuse(ret_why, SECRET_FILE_E_REFUSED,
						  "%s must hold one line of printable characters "
						  "without spaces",
						  path);
	*ret = secret_new(bytes, n);
	return *ret ? 0 : err_origin(-ENOMEM);
}

static int secret_file_open(const char *path, uid_t owner, bool credential, struct secret **ret,
			    char *ret_why)
{
	_cleanup_(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	char bytes[SECRET_MAX + 1];
	ssize_t n;
	int r;

	if (fd < 0 && errno == ENOENT)
		return secret_file_refuse(ret_why, SECRET_FILE_E_MISSING, "%s does not exist",
					  path);
	if (fd < 0)
		return secret_file_refuse(ret_why, SECRET_FILE_E_REFUSED, "%s cannot be opened: %s",
					  path, strerrordesc_np(errno));
	r = secret_file_check(fd, path, owner, credential, ret_why);
	if (r)
		return r;
	n = secret_file_fill(fd, bytes, sizeof(bytes));
	r = n < 0 ? (int)n : secret_file_take(path, bytes, (size_t)n, ret, ret_why);
	crypt_wipe(bytes, sizeof(bytes));
	return r;
}

int secret_file_read(const char *path, struct secret **ret, char ret_why[512])
{
	return secret_file_open(path, geteuid(), false, ret, ret_why);
}

int secret_file_read_of(uid_t owner, const char *path, struct secret **ret, char ret_why[512])
{
	return secret_file_open(path, owner, false, ret, ret_why);
}

int secret_file_read_grouped(const char *path, struct secret **ret, char ret_why[512])
{
	return secret_file_open(path, geteuid(), true, ret, ret_why);
}

char *secret_file_credential(const char *const *names)
{
	const char *dir = getenv("CREDENTIALS_DIRECTORY");

	for (; dir && *dir == '/' && *names; names++) {
		_cleanup_(freep) char *path = xasprintf("%s/%s", dir, *names);

		/* one that cannot be looked at is there, and its reader says why it fails */
		if (access(path, F_OK) == 0 || errno != ENOENT)
			return TAKE(path);
	}
	return NULL;
}

int secret_file_read_credential(const char *const *names, struct secret **ret, char ret_why[512])
{
	_cleanup_(freep) char *path = secret_file_credential(names);

	if (!path)
		return secret_file_refuse(ret_why, SECRET_FILE_E_MISSING, "no credentials");
	return secret_file_read_grouped(path, ret, ret_why);
}
