/* Where a broker's socket may be. Reads the environment, unless the program is setuid; connects to
 * nothing. */
#pragma once

#include <stddef.h>

#include "base/macros.h"
#include "clients/c/keybroker.h"

struct find_paths {
	char *path[KEYBROKER_TRIED_MAX]; /* in the order to try them */
	size_t n;
};

/* Yields the sockets to try, one at least; -ENOMEM. To be given to find_deinit() in each case. */
int find_sockets(struct find_paths *ret, const struct keybroker_options *o) _must_check_;
void find_deinit(struct find_paths *p);
