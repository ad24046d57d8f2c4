/* The default timing, and its members by name for a testing build's --timing FILE. */
#include "core/timing.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define TIMING_SECOND INT64_C(1000)
#define TIMING_MINUTE (60 * TIMING_SECOND)
#define TIMING_HOUR (60 * TIMING_MINUTE)

const struct timing timing_default = {
	.ttl_default_ms = 15 * TIMING_MINUTE,
	.ttl_max_ms = 24 * TIMING_HOUR,
	.min_valid_ms = 5 * TIMING_MINUTE,
	.upstream_timeout_ms = 10 * TIMING_SECOND,
	.info_timeout_ms = 2 * TIMING_SECOND,
	.retry_base_ms = 300,
	.retry_attempts = 3,
	.retry_after_max_ms = TIMING_MINUTE,
	.breaker_ms = 5 * TIMING_SECOND,
	.upstream_recheck_ms = 10 * TIMING_SECOND,
	.acquire_wait_ms = 30 * TIMING_SECOND,
	.duration_min_ms = 5 * TIMING_MINUTE,
	/* another LiteLLM process may honour the old expiry for 60 s more: never wait that long */
	.extend_floor_ms = 90 * TIMING_SECOND,
	.extend_loss_ms = TIMING_MINUTE,
	.takeover_ms = 10 * TIMING_SECOND,
	.pool_life_ms = TIMING_HOUR,
	.burn_delete_ms = 10 * TIMING_MINUTE,
	.sweep_every_ms = 10 * TIMING_MINUTE,
	.grace_ms = 5 * TIMING_MINUTE,
	.fixed_max_ms = 24 * TIMING_HOUR,
	.expiring_ms = TIMING_MINUTE,
	.report_every_ms = TIMING_SECOND,
	.legacy_delete_ms = 24 * TIMING_HOUR,
	.delete_retry_ms = 30 * TIMING_SECOND,
	.revoke_wait_ms = 5 * TIMING_SECOND,
	.checkpoint_every_ms = 10 * TIMING_SECOND,
	.power_sync_ms = 100,
	.idle_reap_ms = TIMING_MINUTE,
	.denial_window_ms = TIMING_MINUTE,
	.audit_head_ms = TIMING_MINUTE,
	.audit_page_ms = 2 * TIMING_SECOND,
	.leader_tick_ms = 400,
	.standby_tick_ms = 100,
	.standby_gap_ms = 300,
	.still_ms = 1500,
	.stopped_ms = 150,
	.newcomer_ms = 1000,
	.locked_ms = 300,
	.hung_ms = 5000,
	.instance_beat_ms = 5000,
	.instance_forget_ms = 60000,
	.handover_ms = 200,
};

#define TIMING_MEMBER(name)                          \
	{                                            \
#name, offsetof(struct timing, name) \
	}

static const struct {
	const char *name;
	size_t at;
} timing_members[] = {
	TIMING_MEMBER(ttl_default_ms),
	TIMING_MEMBER(ttl_max_ms),
	TIMING_MEMBER(min_valid_ms),
	TIMING_MEMBER(upstream_timeout_ms),
	TIMING_MEMBER(info_timeout_ms),
	TIMING_MEMBER(retry_base_ms),
	TIMING_MEMBER(retry_attempts),
	TIMING_MEMBER(retry_after_max_ms),
	TIMING_MEMBER(breaker_ms),
	TIMING_MEMBER(upstream_recheck_ms),
	TIMING_MEMBER(acquire_wait_ms),
	TIMING_MEMBER(duration_min_ms),
	TIMING_MEMBER(extend_floor_ms),
	TIMING_MEMBER(extend_loss_ms),
	TIMING_MEMBER(takeover_ms),
	TIMING_MEMBER(pool_life_ms),
	TIMING_MEMBER(burn_delete_ms),
	TIMING_MEMBER(sweep_every_ms),
	TIMING_MEMBER(grace_ms),
	TIMING_MEMBER(fixed_max_ms),
	TIMING_MEMBER(expiring_ms),
	TIMING_MEMBER(report_every_ms),
	TIMING_MEMBER(legacy_delete_ms),
	TIMING_MEMBER(delete_retry_ms),
	TIMING_MEMBER(revoke_wait_ms),
	TIMING_MEMBER(checkpoint_every_ms),
	TIMING_MEMBER(power_sync_ms),
	TIMING_MEMBER(idle_reap_ms),
	TIMING_MEMBER(denial_window_ms),
	TIMING_MEMBER(audit_head_ms),
	TIMING_MEMBER(audit_page_ms),
	TIMING_MEMBER(leader_tick_ms),
	TIMING_MEMBER(standby_tick_ms),
	TIMING_MEMBER(standby_gap_ms),
	TIMING_MEMBER(still_ms),
	TIMING_MEMBER(stopped_ms),
	TIMING_MEMBER(newcomer_ms),
	TIMING_MEMBER(locked_ms),
	TIMING_MEMBER(hung_ms),
	TIMING_MEMBER(instance_beat_ms),
	TIMING_MEMBER(instance_forget_ms),
	TIMING_MEMBER(handover_ms),
};

/* A member that is missing above would be one that no test can set. */
_Static_assert(ARRAY_SIZE(timing_members) * sizeof(int64_t) == sizeof(struct timing),
	       "each member of struct timing has its row");

int timing_set(struct timing *t, const char *name, int64_t value)
{
	for (size_t i = 0; i < ARRAY_SIZE(timing_members); i++) {
		if (strcmp(timing_members[i].name, name) != 0)
			continue;
		if (value < 0)
			return -EINVAL;
		memcpy((char *)t + timing_members[i].at, &value, sizeof(value));
		return 0;
	}
	return -ENOENT;
}
