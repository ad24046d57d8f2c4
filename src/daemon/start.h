/* What must be true before a broker serves: limits of the process, seal key, state, leadership,
 * sockets. */
#pragma once

#include "base/macros.h"

struct daemon;

/* Each yields 0 or the exit code (sysexits.h), the reason logged. */
int start_process(void);
int start_state(struct daemon *d) _must_check_;
int start_sockets(struct daemon *d) _must_check_;
