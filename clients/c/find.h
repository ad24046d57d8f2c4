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

/* NULL if unset, empty, or not to be believed since the program is setuid. */
const char *find_env(const char *name);
/* Yields the sockets to try, one at least; `given` (may be NULL) goes first and alone. -ENOMEM. To
 * be given to find_deinit() in each case. */
int find_sockets(struct find_paths *ret, const char *given) _must_check_;
/* Likewise the admin sockets: `given`, or those beside the client sockets. */
int find_admin_sockets(struct find_paths *ret, const char *given, const char *client) _must_check_;
void find_deinit(struct find_paths *p);
