/* Facts about processes, from pidfds and /proc. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/macros.h"
#include "core/peer.h"

#define PROCESS_NAME_SIZE 64 /* a kernel thread's may be longer than the 15 bytes of others */

/* A pidfd (close-on-exec). -ESRCH if there is no such process; not logged. */
int process_open(pid_t pid) _must_check_;
/* Start time in clock ticks since boot: field 22 of /proc/PID/stat. -ESRCH, -EACCES (hidepid); not
 * logged. */
int process_start_time(pid_t pid, uint64_t *ret) _must_check_;
/* Its parent (0: none in this pid namespace) and its own start time. As process_start_time(). */
int process_parent(pid_t pid, pid_t *ret_parent, uint64_t *ret_start) _must_check_;
/* Its real and effective uid. As process_start_time(). */
int process_uids(pid_t pid, uid_t *ret_real, uid_t *ret_effective) _must_check_;
/* The pid behind a pidfd; 0: of a foreign pid namespace. -EBADF: it is no pidfd; -ESRCH: ended and
 * forgotten. Not logged. */
int process_pid_of(int pidfd, pid_t *ret) _must_check_;
/* Its systemd units (core/cgroup.h). On an error both stay as they are; not logged. */
int process_units(pid_t pid, char ret_unit[PEER_UNIT_SIZE],
		  char ret_user_unit[PEER_UNIT_SIZE]) _must_check_;
/* True if the process behind the pidfd has ended. */
bool process_ended(int pidfd);
/*
 * Opens the process only if it is the very one: same pid and start time. -ESRCH: it has ended or
 * the pid was reused. Another error (an unreadable /proc) proves nothing. Not logged.
 */
int process_open_same(pid_t pid, uint64_t start_time) _must_check_;
/* The kernel's boot id; the inode of our pid namespace. */
int process_boot_id(char ret[BOOT_ID_SIZE]) _must_check_;
int process_pidns(uint64_t *ret) _must_check_;
/* Its state as /proc/PID/stat has it ('R', 'S', 'D', 'T', 't', 'Z'); '\0': it cannot be told. */
char process_state(pid_t pid);
/* What it calls itself, by /proc/PID/comm; "" if that cannot be told. */
void process_name(pid_t pid, char ret[PROCESS_NAME_SIZE]);
/* Ends it (SIGKILL) through its pidfd and waits up to `ms` for that. -ETIMEDOUT: it is not gone
 * yet. */
int process_kill(int pidfd, int ms) _must_check_;
