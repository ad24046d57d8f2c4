/*
 * An instance that does not lead: registered, holding the listening sockets but no key and no
 * client, it watches the leader and tries to take over when that is justified.
 */
#pragma once

#include <stdbool.h>

#include "base/macros.h"

struct daemon;

/*
 * Tries to lead; if another does, waits until that ends, and if the state cannot be written (no
 * room, read-only; d->store may be NULL then), until it can be. Returns with d->term set once this
 * process leads, or with d->stop_wanted. Exit code, as sysexits.h: the state cannot be used.
 */
int standby_run(struct daemon *d) _must_check_;
