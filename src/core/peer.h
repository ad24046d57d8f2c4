/* The process at the other end of a connection, as the kernel described it when it connected. A
 * plain value. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PEER_GROUPS_MAX \
	256 /* more supplementary groups than this are not looked at, and the log says so */
#define BOOT_ID_SIZE 37

struct peer {
	uid_t uid;
	gid_t gid;
	pid_t pid;	     /* 0: a foreign pid namespace */
	uint64_t start_time; /* of the process, clock ticks since boot (/proc/PID/stat, field 22); 0
				unknown */
	gid_t groups[PEER_GROUPS_MAX];
	size_t n_groups;
	char unit[256]; /* systemd unit; "" if none or unknown */
	char exe[256];	/* "" if the broker may not read it */
};
