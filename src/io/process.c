/*
 * Processes: pidfds, start times and the identity of this boot and pid namespace. Keeps nothing and
 * logs nothing: for most callers a process that has ended is no error.
 */
#include "io/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "core/cgroup.h"

#define PROCESS_STAT_MAX 1024 /* a stat line: a name of at most 64 bytes and 51 numbers */
#define PROCESS_PARENT_FIELD 4
#define PROCESS_START_FIELD 22
#define PROCESS_STATUS_MAX 1024	 /* its uids are among the first lines */
#define PROCESS_CGROUP_MAX 16384 /* a path of v2, and short ones of the v1 hierarchies */

int process_open(pid_t pid)
{
	int fd;

	if (pid <= 0)
		return -ESRCH;
	fd = pidfd_open(pid, 0);
	return fd < 0 ? -errno : fd;
}

/* Reads a small file whole, NUL-terminated. */
static int process_read_file(const char *path, char *ret, size_t size)
{
	_cleanup_(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, ret, size - 1);
	if (n < 0)
		return -errno;
	ret[n] = '\0';
	return 0;
}

/* With hidepid /proc denies that a living process exists; kill(2) does not. */
static bool process_is_hidden(pid_t pid)
{
	return kill(pid, 0) == 0 || errno == EPERM;
}

/* The name, field 2, may hold spaces and parentheses: fields are counted from its last ')'. */
static int process_parse_field(const char *stat, int wanted, uint64_t *ret)
{
	const char *at = strrchr(stat, ')');
	char *end;

	for (int field = 3; at && field <= wanted; field++)
		at = strchr(at + 1, ' ');
	if (!at)
		return -EBADMSG;
	errno = 0;
	*ret = strtoull(at + 1, &end, 10);
	return errno != 0 || end == at + 1 ? -EBADMSG : 0;
}

/* A file below /proc/PID, whole. */
static int process_read(pid_t pid, const char *name, char *ret, size_t size)
{
	char path[32];
	int r;

	if (pid <= 0)
		return -ESRCH;
	(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name); /* fits */
	r = process_read_file(path, ret, size);
	if (r == -ENOENT)
		return process_is_hidden(pid) ? -EACCES : -ESRCH;
	return r;
}

int process_start_time(pid_t pid, uint64_t *ret)
{
	char stat[PROCESS_STAT_MAX];
	int r = process_read(pid, "stat", stat, sizeof(stat));

	return r < 0 ? r : process_parse_field(stat, PROCESS_START_FIELD, ret);
}

int process_parent(pid_t pid, pid_t *ret_parent, uint64_t *ret_start)
{
	char stat[PROCESS_STAT_MAX];
	uint64_t parent = 0;
	int r = process_read(pid, "stat", stat, sizeof(stat));

	r = r < 0 ? r : process_parse_field(stat, PROCESS_PARENT_FIELD, &parent);
	r = r < 0 ? r : process_parse_field(stat, PROCESS_START_FIELD, ret_start);
	if (r == 0)
		*ret_parent = (pid_t)parent;
	return r;
}

int process_uids(pid_t pid, uid_t *ret_real, uid_t *ret_effective)
{
	char status[PROCESS_STATUS_MAX];
	const char *at;
	int r = process_read(pid, "status", status, sizeof(status));

	if (r < 0)
		return r;
	at = strstr(status, "\nUid:");
	return at && sscanf(at, "\nUid: %u %u", ret_real, ret_effective) == 2 ? 0 : -EBADMSG;
}

int process_pid_of(int pidfd, pid_t *ret)
{
	char path[48], info[PROCESS_STAT_MAX];
	const char *at;
	int pid = 0, r;

	(void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd); /* fits */
	r = process_read_file(path, info, sizeof(info));
	if (r < 0)
		return r == -ENOENT ? -EBADF : r;
	at = strstr(info, "\nPid:");
	if (!at || sscanf(at, "\nPid: %d", &pid) != 1)
		return -EBADF;
	if (pid < 0)
		return -ESRCH;
	*ret = pid;
	return 0;
}

int process_units(pid_t pid, char ret_unit[PEER_UNIT_SIZE], char ret_user_unit[PEER_UNIT_SIZE])
{
	char path[32], text[PROCESS_CGROUP_MAX];
	int r;

	(void)snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid); /* fits */
	r = process_read_file(path, text, sizeof(text));
	if (r < 0)
		return r;
	if (strlen(text) == sizeof(text) - 1)
		return -E2BIG; /* perhaps cut: a path must not look shorter than it is */
	cgroup_units(text, ret_unit, ret_user_unit);
	return 0;
}

bool process_ended(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return poll(&p, 1, 0) == 1 && p.revents & POLLIN;
}

int process_open_same(pid_t pid, uint64_t start_time)
{
	_cleanup_(fd_close) int fd = -1;
	uint64_t found = 0;
	int r;

	if (start_time == 0)
		return -EINVAL; /* unknown: nothing could be proven with it */
	fd = process_open(pid);
	if (fd < 0)
		return fd;
	r = process_start_time(pid, &found);
	if (r < 0)
		return r;
	/* read while the pidfd shows life, so it was this process's time and no successor's */
	if (process_ended(fd) || found != start_time)
		return -ESRCH;
	return take_fd(&fd);
}

int process_boot_id(char ret[BOOT_ID_SIZE])
{
	char text[BOOT_ID_SIZE + 1];
	int r = process_read_file("/proc/sys/kernel/random/boot_id", text, sizeof(text));

	if (r < 0)
		return err_origin(r);
	text[strcspn(text, "\n")] = '\0';
	if (strlen(text) != BOOT_ID_SIZE - 1)
		return err_origin(-EBADMSG);
	memcpy(ret, text, BOOT_ID_SIZE);
	return 0;
}

int process_pidns(uint64_t *ret)
{
	struct stat st;

	if (stat("/proc/self/ns/pid", &st) < 0)
		return err_origin(-errno);
	*ret = st.st_ino;
	return 0;
}

char process_state(pid_t pid)
{
	char path[32], stat[PROCESS_STAT_MAX];
	const char *at;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid); /* fits */
	if (process_read_file(path, stat, sizeof(stat)) < 0)
		return '\0';
	at = strrchr(stat, ')');
	return at && at[1] == ' ' ? at[2] : '\0';
}

void process_name(pid_t pid, char ret[PROCESS_NAME_SIZE])
{
	char path[32];

	(void)snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	if (process_read_file(path, ret, PROCESS_NAME_SIZE) < 0)
		ret[0] = '\0';
	ret[strcspn(ret, "\n")] = '\0';
}

int process_kill(int pidfd, int ms)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	if (pidfd_send_signal(pidfd, SIGKILL, NULL, 0) < 0)
		return errno == ESRCH ? 0 : -errno;
	return poll(&p, 1, ms) == 1 ? 0 : -ETIMEDOUT;
}
