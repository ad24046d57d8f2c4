/* Written beside its place under another name, then renamed. */
#include "cli/key_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"

static int key_file_fill(int fd, const char *text, size_t n)
{
	ssize_t written = write(fd, text, n);

	if (written < 0)
		return -errno;
	return (size_t)written == n ? 0 : -ENOSPC;
}

int key_file_write(struct key_file *f, const char *key)
{
	_cleanup_(freep) char *beside = xasprintf("%s.XXXXXX", f->path);
	_cleanup_(fd_close) int fd = mkostemp(beside, O_CLOEXEC); /* 0600 */
	int r;

	if (fd < 0)
		return -errno;
	r = key_file_fill(fd, key, strlen(key));
	if (r == 0)
		r = key_file_fill(fd, "\n", 1);
	if (r == 0 && rename(beside, f->path) < 0)
		r = -errno;
	if (r < 0) {
		(void)unlink(beside); /* nothing more can be done for it */
		return r;
	}
	fd_close(&f->fd);
	f->fd = take_fd(&fd);
	return 0;
}

/* Who puts another one there in this very moment loses it; each renames its own into place. */
void key_file_remove(const struct key_file *f)
{
	struct stat ours, there;

	if (f->fd >= 0 && fstat(f->fd, &ours) == 0 && lstat(f->path, &there) == 0 &&
	    ours.st_dev == there.st_dev && ours.st_ino == there.st_ino)
		(void)unlink(f->path);
}

void key_file_deinit(struct key_file *f)
{
	fd_close(&f->fd);
	free(TAKE(f->path));
}
