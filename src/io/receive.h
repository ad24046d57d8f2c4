/* Bytes of a stream socket, and what came with them. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "base/macros.h"

/* What the kernel adds to the bytes. */
struct received {
	int fd; /* the first descriptor (SCM_RIGHTS) if it is a pidfd, close-on-exec; else -1 */
	pid_t sender; /* whose bytes they are (SCM_CREDENTIALS); 0: the socket does not say */
};

/* recv() with MSG_DONTWAIT; -1 with errno alike. `ret->fd` is the caller's to close; no other
 * descriptor stays. */
ssize_t receive(int fd, void *data, size_t size, struct received *ret) _must_check_;
