/* One hand-out of a key to a peer, as the store holds it. `active -> released | expired | revoked`;
 * never revived. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/crypt.h"
#include "core/config.h"
#include "core/key.h"
#include "core/peer.h"

enum lease_state { LEASE_ACTIVE, LEASE_RELEASED, LEASE_EXPIRED, LEASE_REVOKED };
enum lease_bind { LEASE_PROCESS, LEASE_CONNECTION, LEASE_TTL };

struct lease_row {
	char id[ID_SIZE];
	char key_id[ID_SIZE]; /* "" for a static profile */
	char profile[PROFILE_NAME_MAX];
	char rule[PROFILE_NAME_MAX]; /* that allowed it */
	enum lease_state state;
	enum lease_bind bind;
	bool refreshable; /* false: fixed, its holder cannot take a new key */
	/* the peer that asked */
	uid_t uid;
	gid_t gid;
	pid_t pid;
	/* the process it is bound to (LEASE_PROCESS) */
	pid_t holder_pid;
	uint64_t holder_start; /* clock ticks since boot */
	char boot_id[BOOT_ID_SIZE];
	char request_id[REQUEST_ID_MAX];
	uint64_t term;
	int64_t granted_at_ms;
	int64_t ends_at_ms;  /* Unix; TTL leases; 0 otherwise */
	int64_t ended_at_ms; /* 0 while active */
	uint64_t pidns;	     /* inode of the pid namespace that its pids are of; 0: unknown */
	char listen[PEER_LISTEN_SIZE]; /* the `listen` section by which it was asked for */
	int64_t ends_boot_ms; /* ends_at_ms by the clock of the boot `boot_id`; 0: unknown */
};

const char *lease_state_name(enum lease_state state);
const char *lease_bind_name(enum lease_bind bind);
int lease_bind_from_name(const char *name); /* -1: none has it */
