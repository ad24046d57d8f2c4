/*
 * What a lease lasts as long as: a process, watched by one pidfd however many leases it has, or a
 * connection. When that has gone the lease ends by itself.
 */
#pragma once

#include <stdbool.h>

#include "base/macros.h"

struct holder;
struct lease;
struct request;

/*
 * The process of the lease's row, behind `pidfd` (which is duplicated), holds it; `table` has all
 * such processes. -ESRCH: it has ended, or there is no pidfd. -EMFILE (logged).
 */
int holder_join(struct holder **table, struct lease *l, int pidfd) _must_check_;
/* The connection of `r` holds it, in place of one that did. False: it takes no more requests. */
bool holder_connect(struct lease *l, struct request *r);
/* Neither process nor connection holds it any more. */
void holder_leave(struct lease *l);
/* Nothing holds it: its process has ended, its connection was closed. Not of TTL leases. */
bool holder_is_gone(const struct lease *l);
