/* Who is at the other end of a connection: asked of the kernel once, right after accept(). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/macros.h"
#include "core/peer.h"

/*
 * Reads the peer's credentials (SO_PEERCRED, SO_PEERGROUPS, SO_PEERPIDFD or pidfd_open(2) with a
 * start-time check), its units and executable. `ret_pidfd` is the caller's to close; -1 if the
 * process could not be pinned (it has ended, or a foreign pid namespace on an old kernel). -EMFILE,
 * -ENFILE, -ENOMEM: no descriptor was left for it (not logged). Other -errno.
 */
int peer_read(int fd, struct peer *ret, int *ret_pidfd) _must_check_;
/*
 * Does this kernel tell which process connected (SO_PEERPIDFD)? If not, listening sockets need
 * SO_PASSCRED: the first message's pid must then be the peer's, or a forked child speaks for a
 * parent that may be gone.
 */
bool peer_is_told(void);
