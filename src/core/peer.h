/* The process at the other end of a connection, as the kernel described it when it connected. A
 * plain value. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PEER_GROUPS_MAX \
	256 /* more supplementary groups than this are not looked at, and the log says so */
#define PEER_UNIT_SIZE 256  /* systemd's own limit, with the NUL */
#define PEER_LISTEN_SIZE 64 /* PROFILE_NAME_MAX */
#define BOOT_ID_SIZE 37

struct peer {
	uid_t uid;
	gid_t gid;
	pid_t pid;	     /* 0: a foreign pid namespace */
	uint64_t start_time; /* of the process, clock ticks since boot (/proc/PID/stat, field 22);
				of a foreign one (pid 0) the inode of its pidfd, which names it as
				well; 0 unknown */
	gid_t groups[PEER_GROUPS_MAX];
	size_t n_groups;
	char unit[PEER_UNIT_SIZE];	/* systemd unit; "" if none or unknown */
	char user_unit[PEER_UNIT_SIZE]; /* unit of its user's systemd; likewise */
	char exe[256];			/* "" if the broker may not read it */
	bool exe_elsewhere; /* that path leads to another file here (a container, an upgrade): no
			       rule's `exe` matches */
	bool pinned;	    /* its pidfd is the kernel's own (SO_PEERPIDFD), not opened by number */
	bool ended;	    /* it had ended when its connection was accepted */
	char listen[PEER_LISTEN_SIZE]; /* the `listen` section whose socket it came by; "": none */
};
