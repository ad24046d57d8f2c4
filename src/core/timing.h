/*
 * Every duration the broker decides by, in one place (milliseconds unless the name says otherwise).
 * A testing build reads others from `--timing FILE`; a release build has only these.
 */
#pragma once

#include <stdint.h>

#include "base/macros.h"

struct timing {
	int64_t ttl_default_ms; /* a TTL lease that names none */
	int64_t ttl_max_ms;	/* the longest TTL lease */
	int64_t min_valid_ms;	/* least remaining life of a key handed out; at most a third of its
				   life */
	int64_t upstream_timeout_ms; /* one admin call */
	int64_t info_timeout_ms;     /* one /key/info; LITELLM_KEY_VALIDATION_TIMEOUT_MS */
	int64_t retry_base_ms;	     /* first pause between attempts, doubling with jitter */
	int64_t retry_attempts;	     /* tries in all for one call */
	int64_t retry_after_max_ms;  /* a longer Retry-After counts as this */
	int64_t breaker_ms;	     /* pause after a call that failed in all its attempts */
	int64_t upstream_recheck_ms; /* a shared key that could not be made or checked: try again
					after this */
	int64_t acquire_wait_ms; /* an acquire waits for upstream at most, unless it says timeout_ms
				  */
	int64_t duration_min_ms; /* a shorter life of a key is a config error */
	int64_t extend_loss_ms;	 /* min(1/10 of its life, this) may be gone from a key that is as
				    good as  new */
	int64_t extend_floor_ms; /* a key is prolonged when max(1/3 of its life, this) is left */
	int64_t takeover_ms;  /* after a change of term: a caller may come back with its request_id
			       */
	int64_t pool_life_ms; /* the life of a key that waits in a pool; it is prolonged there */
	int64_t burn_delete_ms; /* a burned key is deleted this long after it was burned */
	int64_t sweep_every_ms; /* between two sweeps of the upstream's key list */
	int64_t grace_ms;	/* a retiring key stays at least this long for refreshable leases */
	int64_t fixed_max_ms;	/* and at most this long for fixed ones */
	int64_t expiring_ms;	/* so long before a TTL lease ends its watcher is told; a third of a
				   shorter one */
	int64_t report_every_ms;  /* upstream is asked about a reported key this often at most */
	int64_t legacy_delete_ms; /* a renamed key of the old provisioner is deleted after this */
	int64_t delete_retry_ms;  /* a deletion that failed is tried again after this */
	int64_t revoke_wait_ms;	  /* a revoke waits this long for upstream to say what became of its
				     keys */
	int64_t checkpoint_every_ms; /* the WAL is checkpointed */
	int64_t power_sync_ms; /* durability = crash: a FULL commit at least this often when there
				  was a change */
	int64_t idle_reap_ms;  /* a connection that never completed a request is closed */
	int64_t denial_window_ms; /* denials of one kind: the first is a row, the others of this
				     time one more */
	int64_t audit_head_ms;	  /* the audit's head goes to the log this often when it changed */
	int64_t audit_page_ms;	  /* an audit_read that is still searching answers after this */

	/* several instances over one state */
	int64_t leader_tick_ms;	 /* the leader looks for other instances, and beats if there are any
				  */
	int64_t standby_tick_ms; /* a standby looks at the leader */
	int64_t standby_gap_ms;	 /* two looks farther apart than this count for nothing */
	int64_t still_ms;	 /* a beat that has stood still for this long is a dead leader's */
	int64_t stopped_ms;	 /* so is a process that has been in state T for this long */
	int64_t newcomer_ms;	 /* a standby counts from this long after it registered */
	int64_t locked_ms; /* the state's lock has been held by another for this long: who holds it
			      is looked at */
	int64_t hung_ms; /* a registered instance that has held the lock for this long is killed */
	int64_t instance_beat_ms;   /* a standby shows that it lives */
	int64_t instance_forget_ms; /* one that does not is forgotten */
	int64_t handover_ms; /* an instance that is asked for the listening sockets must answer
				within */
};

extern const struct timing timing_default;

/* Sets one value by its member name; -ENOENT for an unknown name, -EINVAL for a negative value
 * (neither logged). */
int timing_set(struct timing *t, const char *name, int64_t value) _must_check_;
