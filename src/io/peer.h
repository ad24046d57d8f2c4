/* Who is at the other end of a connection: asked of the kernel once, right after accept(). */
#pragma once

#include "base/macros.h"
#include "core/peer.h"

/*
 * Reads the peer's credentials (SO_PEERCRED, SO_PEERGROUPS, SO_PEERPIDFD or pidfd_open(2) with a
 * start-time check). `ret_pidfd` is the caller's to close; -1 if the process could not be pinned
 * (it has ended, or a foreign pid namespace on an old kernel). -EMFILE, -ENFILE, -ENOMEM: no
 * descriptor was left for it (not logged). Other -errno.
 */
int peer_read(int fd, struct peer *ret, int *ret_pidfd) _must_check_;
