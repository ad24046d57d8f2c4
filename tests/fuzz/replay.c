/*
 * Stands in for libFuzzer: feeds each file of the directories in argv to the target, so that every
 * build replays the corpus. Fails if it finds no file.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/macros.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int replay_file(int dir_fd, const char *name)
{
	_cleanup_(fd_close) int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -1;
	if (!S_ISREG(st.st_mode))
		return 0;
	/* an exact allocation, so that a sanitizer sees each read beyond it */
	uint8_t *data = malloc(st.st_size > 0 ? (size_t)st.st_size : 1);
	if (!data)
		return -1;
	ssize_t n = read(fd, data, (size_t)st.st_size);
	if (n == st.st_size)
		(void)LLVMFuzzerTestOneInput(data,
					     (size_t)n); /* always 0: it aborts on a finding */
	free(data);
	return n == st.st_size ? 1 : -1;
}

/* The number of files replayed, or -1. */
static int replay_directory(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int count = 0, r = 0;

	if (!dir)
		return -1;
	while (r >= 0 && (entry = readdir(dir))) {
		r = entry->d_name[0] == '.' ? 0 : replay_file(dirfd(dir), entry->d_name);
		if (r < 0)
			perror(entry->d_name);
		count += r;
	}
	(void)closedir(dir); /* read only */
	return r < 0 ? -1 : count;
}

int main(int argc, char **argv)
{
	int total = 0;

	for (int i = 1; i < argc; i++) {
		int count = replay_directory(argv[i]);

		if (count < 0) {
			(void)fprintf(stderr, "%s: cannot be replayed\n", argv[i]);
			return 1;
		}
		total += count;
	}
	printf("%d files replayed\n", total);
	return total > 0 ? 0 : 1;
}
