/*
 * The control of the durable figures: for each line of sizes on stdin it writes so many bytes to
 * FILE, one write and one fdatasync each, and prints the seconds that this took.
 * usage: bench_raw FILE
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define RAW_MAX (4 << 20) /* written over again and again, as a log that begins anew */

static void raw_write(int fd, const void *data, size_t n, off_t at)
{
	if (pwrite(fd, data, n, at) == (ssize_t)n && fdatasync(fd) == 0)
		return;
	(void)fprintf(stderr, "bench_raw: %s\n", strerror(errno));
	exit(1);
}

/* The sizes of one line; the seconds of writing them. */
static double raw_line(int fd, const void *data, char *line)
{
	int64_t start = clock_monotonic_nsec();
	off_t at = 0;

	for (char *word = strtok(line, " \n"); word; word = strtok(NULL, " \n")) {
		size_t n = strtoul(word, NULL, 10);

		if (n > RAW_MAX)
			n = RAW_MAX;
		if (at + (off_t)n > RAW_MAX)
			at = 0;
		raw_write(fd, data, n, at);
		at += (off_t)n;
	}
	return (double)(clock_monotonic_nsec() - start) / 1e9;
}

int main(int argc, char **argv)
{
	int fd = argc == 2 ? open(argv[1], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
	void *data = calloc(1, RAW_MAX);
	char *line = NULL;
	size_t size = 0;

	if (fd < 0 || !data) {
		(void)fprintf(stderr, "usage: bench_raw FILE\n");
		return 1;
	}
	raw_write(fd, data, RAW_MAX, 0);
	while (getline(&line, &size, stdin) > 0) {
		(void)printf("%.9f\n", raw_line(fd, data, line));
		(void)fflush(stdout);
	}
	free(line);
	free(data);
	(void)close(fd);
	return 0;
}
