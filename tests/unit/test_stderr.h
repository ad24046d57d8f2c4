/* What a piece of a test writes on stderr, through a pipe: at most what a pipe holds. */
#pragma once

#include "test.h"

#include <fcntl.h>
#include <unistd.h>

struct capture {
	int stderr_fd, read_fd;
	char text[16384];
};

static inline void capture_begin(struct capture *c)
{
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	c->stderr_fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	assert_true(c->stderr_fd >= 0);
	assert_int_equal(dup2(fds[1], STDERR_FILENO), STDERR_FILENO);
	assert_int_equal(close(fds[1]), 0);
	c->read_fd = fds[0];
}

/* The text as a string; the next call overwrites it. */
static inline const char *capture_end(struct capture *c)
{
	ssize_t n;

	assert_int_equal(dup2(c->stderr_fd, STDERR_FILENO), STDERR_FILENO);
	assert_int_equal(close(c->stderr_fd), 0);
	n = read(c->read_fd, c->text, sizeof(c->text) - 1);
	assert_int_equal(close(c->read_fd), 0);
	c->text[n > 0 ? n : 0] = '\0';
	return c->text;
}
