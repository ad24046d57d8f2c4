/* File descriptors as owned values. */
#pragma once

#include <unistd.h>

#include "base/macros.h"

static inline void fd_close(int *fd)
{
	if (*fd >= 0)
		(void)close(
			*fd); /* nothing to do about a failure, and EINTR has closed it on Linux */
	*fd = -1;
}

static inline int take_fd(int *fd)
{
	int v = *fd;

	*fd = -1;
	return v;
}
