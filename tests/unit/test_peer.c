/* Peers: what the kernel says of the process at the other end, dead or alive. */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "io/peer.h"
#include "io/process.h"

/* A listening socket without a path: the kernel picks an abstract name. */
static int listen_abstract(struct sockaddr_un *ret, socklen_t *ret_len)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un any = { .sun_family = AF_UNIX };

	assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof(sa_family_t)), 0);
	assert_int_equal(listen(fd, 5), 0);
	*ret_len = sizeof(*ret);
	assert_int_equal(getsockname(fd, (struct sockaddr *)ret, ret_len), 0);
	return fd;
}

/* Connects to ourselves; the client's end. */
static int connect_self(int *ret_server)
{
	struct sockaddr_un a;
	socklen_t len;
	_cleanup_(fd_close) int listener = listen_abstract(&a, &len);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&a, len), 0);
	*ret_server = accept(listener, NULL, NULL);
	assert_true(*ret_server >= 0);
	return fd;
}

/* A child that connects, and lives until its end of the connection is told to end. */
static pid_t connect_child(int *ret_server)
{
	struct sockaddr_un a;
	socklen_t len;
	_cleanup_(fd_close) int listener = listen_abstract(&a, &len);
	pid_t pid = fork();
	char byte;

	assert_true(pid >= 0);
	if (pid == 0) {
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);

		if (connect(fd, (struct sockaddr *)&a, len) == 0)
			(void)!read(fd, &byte, 1);
		_exit(0);
	}
	*ret_server = accept(listener, NULL, NULL);
	assert_true(*ret_server >= 0);
	return pid;
}

static void test_a_peer_is_whoever_connected(void **state)
{
	_cleanup_(fd_close) int server = -1;
	_cleanup_(fd_close) int pidfd = -1;
	gid_t groups[PEER_GROUPS_MAX];
	struct peer p;
	uint64_t start = 0;
	pid_t pid = connect_child(&server);
	char exe[256] = "";

	(void)state;
	assert_int_equal(process_start_time(pid, &start), 0);
	assert_int_equal(peer_read(server, &p, &pidfd), 0);
	assert_int_equal(p.uid, geteuid());
	assert_int_equal(p.gid, getegid());
	assert_int_equal(p.pid, pid);
	assert_int_equal(p.start_time, start);
	assert_true(readlink("/proc/self/exe", exe, sizeof(exe) - 1) > 0);
	assert_string_equal(p.exe, exe);
	assert_string_equal(p.unit, "");
	assert_int_equal(p.n_groups, getgroups(PEER_GROUPS_MAX, groups));
	assert_memory_equal(p.groups, groups, p.n_groups * sizeof(gid_t));
	assert_true(pidfd >= 0);
	assert_false(process_ended(pidfd));
	assert_int_equal(write(server, "", 1), 1);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_true(process_ended(pidfd));
}

/* Who it was is known; what /proc says of its number may be of another, so nothing is believed. */
static void test_of_an_ended_peer_only_its_credentials_are_known(void **state)
{
	_cleanup_(fd_close) int server = -1;
	_cleanup_(fd_close) int pidfd = -1;
	struct peer p;
	pid_t pid = connect_child(&server);

	(void)state;
	assert_int_equal(write(server, "", 1), 1);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(peer_read(server, &p, &pidfd), 0);
	assert_int_equal(p.uid, geteuid());
	assert_int_equal(p.pid, pid);
	assert_int_equal(p.start_time, 0);
	assert_string_equal(p.exe, "");
	assert_true(pidfd < 0 || process_ended(pidfd));
}

static void test_a_zombie_has_ended(void **state)
{
	_cleanup_(fd_close) int server = -1;
	_cleanup_(fd_close) int pidfd = -1;
	struct peer p;
	siginfo_t info;
	pid_t pid = connect_child(&server);

	(void)state;
	assert_int_equal(write(server, "", 1), 1);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(peer_read(server, &p, &pidfd), 0);
	assert_int_equal(p.start_time, 0);
	assert_true(pidfd < 0 || process_ended(pidfd));
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_of_many_groups_the_first_are_looked_at(void **state)
{
	_cleanup_(fd_close) int server = -1;
	_cleanup_(fd_close) int client = -1;
	_cleanup_(fd_close) int pidfd = -1;
	gid_t many[PEER_GROUPS_MAX + 44], old[PEER_GROUPS_MAX];
	struct peer p;
	int n_old = getgroups(PEER_GROUPS_MAX, old);

	(void)state;
	if (geteuid() != 0)
		skip(); /* needs setgroups(2) */
	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = (gid_t)(10000 + i);
	assert_int_equal(setgroups(ARRAY_SIZE(many), many), 0);
	client = connect_self(&server);
	assert_int_equal(setgroups((size_t)n_old, old), 0);
	assert_int_equal(peer_read(server, &p, &pidfd), 0);
	assert_int_equal(p.n_groups, PEER_GROUPS_MAX);
	assert_memory_equal(p.groups, many, sizeof(p.groups));
}

/* Out of descriptors is the server's trouble, not the peer's: it must not look like an ended one.
 */
static void test_a_shortage_of_descriptors_is_an_error(void **state)
{
	_cleanup_(fd_close) int server = -1;
	_cleanup_(fd_close) int client = connect_self(&server);
	struct rlimit old, tight;
	struct peer p = { .uid = 77 };
	int pidfd = -1, r[2];

	(void)state;
	assert_true(client >= 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	int next = dup(STDIN_FILENO);
	(void)close(next);
	for (size_t spare = 0; spare < 2; spare++) {
		tight = (struct rlimit){ (rlim_t)next + spare, old.rlim_max };
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
		r[spare] = peer_read(server, &p, &pidfd);
	}
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(r[0], -EMFILE);
	assert_int_equal(r[1], -EMFILE);
	assert_int_equal(pidfd, -1);
	assert_int_equal(p.uid, 77);
	assert_int_equal(dup(STDIN_FILENO), next); /* nothing was left open */
	(void)close(next);
}

/* As before Linux 6.5: the same is known, and that it was found by number. */
static void test_without_the_kernels_help_the_process_is_found_by_number(void **state)
{
	_cleanup_(fd_close) int server = -1;
	_cleanup_(fd_close) int pidfd = -1;
	_cleanup_(fd_close) int gone = -1;
	struct peer told, found;
	pid_t pid = connect_child(&server);

	(void)state;
	assert_int_equal(peer_read(server, &told, &pidfd), 0);
	fd_close(&pidfd);
	if (!told.pinned)
		skip(); /* this is such a kernel */
	assert_int_equal(setenv("KEYBROKER_NO_PEERPIDFD", "1", 1), 0);
	assert_false(peer_is_told());
	assert_int_equal(peer_read(server, &found, &pidfd), 0);
	assert_false(found.pinned || found.ended);
	assert_true(pidfd >= 0 && !process_ended(pidfd));
	assert_int_equal(found.start_time, told.start_time);
	assert_string_equal(found.exe, told.exe);
	assert_int_equal(write(server, "", 1), 1);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(peer_read(server, &found, &gone), 0);
	assert_true(found.ended && gone < 0);
	assert_int_equal(unsetenv("KEYBROKER_NO_PEERPIDFD"), 0);
	assert_true(peer_is_told());
}

static void test_a_socket_without_a_peer_is_an_error(void **state)
{
	_cleanup_(fd_close) int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct peer p;
	int pidfd = -1;

	(void)state;
	assert_int_equal(peer_read(fd, &p, &pidfd), -ENOTSOCK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_peer_is_whoever_connected),
		cmocka_unit_test(test_of_an_ended_peer_only_its_credentials_are_known),
		cmocka_unit_test(test_a_zombie_has_ended),
		cmocka_unit_test(test_of_many_groups_the_first_are_looked_at),
		cmocka_unit_test(test_a_shortage_of_descriptors_is_an_error),
		cmocka_unit_test(test_without_the_kernels_help_the_process_is_found_by_number),
		cmocka_unit_test(test_a_socket_without_a_peer_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
