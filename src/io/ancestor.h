/* Whether one process descends from another, which it names by a pidfd. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/macros.h"
#include "core/peer.h"

enum ancestor {
	ANCESTOR_YES,
	ANCESTOR_NO_PIDFD,  /* the descriptor is something else */
	ANCESTOR_GONE,	    /* one of the two has ended */
	ANCESTOR_UNSEEN,    /* another pid namespace, or /proc is closed to us */
	ANCESTOR_OTHER_UID, /* not, real and effective, of the peer's uid */
	ANCESTOR_NO,	    /* not above the peer, or too far above */
};

/*
 * Is the process behind `pidfd`, which came from anybody, of the peer's uid and an ancestor of the
 * peer, whose own pidfd is `peer_pidfd` (-1: there is none)? Who it is, on ANCESTOR_YES alone.
 */
enum ancestor ancestor_check(const struct peer *peer, int peer_pidfd, int pidfd, pid_t *ret_pid,
			     uint64_t *ret_start) _must_check_;
