/*
 * The place of the state: its directory, the modes and owners in it, and the reserve. Never opens
 * an existing database file: closing the descriptor would drop SQLite's locks on it.
 */
#include "io/store_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "io/store.h"

#define STORE_RESERVE_SIZE (4 << 20)

/* FUSE is not here: it is as often local, and its POSIX locks and mmap work there. */
static const struct {
	unsigned type;
	const char *name;
} store_network_types[] = {
	{ NFS_SUPER_MAGIC, "NFS" },	{ SMB_SUPER_MAGIC, "SMB" },   { CIFS_SUPER_MAGIC, "CIFS" },
	{ SMB2_SUPER_MAGIC, "SMB2" },	{ V9FS_MAGIC, "9p" },	      { AFS_SUPER_MAGIC, "AFS" },
	{ AFS_FS_MAGIC, "AFS" },	{ CEPH_SUPER_MAGIC, "Ceph" }, { CODA_SUPER_MAGIC, "Coda" },
	{ OCFS2_SUPER_MAGIC, "OCFS2" }, { 0x0bd00bd0, "Lustre" },     { 0x01161970, "GFS2" },
};

const char *store_network_fs(long type)
{
	/* 32 bits: f_type is a signed long in some ABIs, and the constants don't fit an int */
	for (size_t i = 0; i < ARRAY_SIZE(store_network_types); i++)
		if (store_network_types[i].type == (unsigned)type)
			return store_network_types[i].name;
	return NULL;
}

/* mkdir -p with 0700 for all that is made, as XDG asks. */
static int store_dir_make(const char *dir)
{
	_cleanup_(freep) char *path = xstrdup(dir);

	for (char *p = path + 1;; p++) {
		char end = *p;

		if (end != '/' && end != '\0')
			continue;
		*p = '\0';
		if (mkdir(path, 0700) < 0 && errno != EEXIST && errno != EISDIR) {
			int e = errno;

			if (e == ENOSPC || e == EDQUOT)
				return STORE_E_FULL;
			log_error("cannot make the directory %s: %s", path, strerror(e));
			return e == EACCES || e == EPERM || e == EROFS || e == ENOTDIR
				       ? STORE_E_ACCESS
				       : err_origin(-e);
		}
		if (end == '\0')
			return 0;
		*p = end;
	}
}

/* Ours alone: no one else may read, write or even look. */
static int store_dir_check_owner(const char *path, const struct stat *st, unsigned mode)
{
	if (st->st_uid != geteuid()) {
		log_error("%s belongs to uid %u, not to uid %u who runs this", path,
			  (unsigned)st->st_uid, (unsigned)geteuid());
		return STORE_E_ACCESS;
	}
	if ((st->st_mode & 0777) != mode) {
		log_error("%s has mode %04o; it must be %04o: chmod %04o '%s'", path,
			  (unsigned)st->st_mode & 07777, mode, mode, path);
		return STORE_E_ACCESS;
	}
	return 0;
}

static int store_dir_check(const char *path, int fd)
{
	const char *network;
	struct statfs fs;
	struct stat st;

	if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
		return err_origin(-errno);
	network = store_network_fs((long)fs.f_type);
	if (network) {
		log_error("%s is on a network file system (%s), whose locks can't be trusted: "
			  "choose a local state directory",
			  path, network);
		return STORE_E_ACCESS;
	}
	return store_dir_check_owner(path, &st, 0700);
}

int store_dir_open(const char *dir, char **ret_resolved, int *ret_fd)
{
	_cleanup_(freep) char *resolved = NULL;
	_cleanup_(fd_close) int fd = -1;
	int r;

	if (dir[0] == '\0')
		return err_origin(-EINVAL);
	r = store_dir_make(dir);
	if (r != 0)
		return r;
	/* once: what is checked below is what SQLite opens */
	resolved = realpath(dir, NULL);
	if (resolved)
		fd = open(resolved, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		log_error("cannot open the state directory %s: %s", dir, strerror(errno));
		return STORE_E_ACCESS;
	}
	r = store_dir_check(resolved, fd);
	if (r != 0)
		return r;
	*ret_resolved = TAKE(resolved);
	*ret_fd = take_fd(&fd);
	return 0;
}

static int store_dir_check_file(const char *dir, int dir_fd, const char *name)
{
	_cleanup_(freep) char *path = xasprintf("%s/%s", dir, name);
	struct stat st;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_origin(-errno);
	if (!S_ISREG(st.st_mode)) {
		log_error("%s is not a regular file", path);
		return STORE_E_ACCESS;
	}
	return store_dir_check_owner(path, &st, 0600);
}

int store_dir_files(const char *dir, int dir_fd)
{
	static const char *const names[] = { STORE_FILE, STORE_FILE "-wal", STORE_FILE "-shm" };
	_cleanup_(fd_close) int fd = -1;
	int r = 0;

	/* SQLite would take the umask; -wal and -shm get the database's mode from it */
	fd = openat(dir_fd, STORE_FILE, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 && errno == EROFS)
		return STORE_E_READONLY;
	if (fd < 0 && errno != EEXIST)
		return errno == ENOSPC || errno == EDQUOT ? STORE_E_FULL : err_origin(-errno);
	for (size_t i = 0; i < ARRAY_SIZE(names) && r == 0; i++)
		r = store_dir_check_file(dir, dir_fd, names[i]);
	return r;
}

static const char *const store_companions[STORE_COMPANIONS] = { STORE_FILE "-wal",
								STORE_FILE "-shm" };

const char *store_dir_companion_name(size_t which)
{
	return store_companions[which];
}

bool store_dir_companion(int dir_fd, size_t which, struct store_file *ret)
{
	struct stat st;
	int r = fstatat(dir_fd, store_companions[which], &st, AT_SYMLINK_NOFOLLOW);

	if (r < 0 && errno != ENOENT)
		return false;
	*ret = r < 0 ? (struct store_file){ 0 }
		     : (struct store_file){ .dev = st.st_dev, .ino = st.st_ino };
	return true;
}

bool store_reserve_make(int dir_fd)
{
	_cleanup_(fd_close) int fd =
		openat(dir_fd, STORE_RESERVE_FILE, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	int e;

	if (fd < 0)
		return errno != ENOSPC && errno != EDQUOT;
	if (fallocate(fd, 0, 0, STORE_RESERVE_SIZE) == 0)
		return true; /* at once when it is there already */
	e = errno;
	store_reserve_give_up(dir_fd);
	/* a file system that can't set room aside must not look full */
	return e != ENOSPC && e != EDQUOT;
}

void store_reserve_give_up(int dir_fd)
{
	(void)unlinkat(dir_fd, STORE_RESERVE_FILE, 0); /* gone or never there: all the same */
}
