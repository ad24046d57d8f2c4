/* Processes: a process is itself and no other, and an ended one is seen to have ended. */
#include "test.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "io/process.h"

/* A child that lives until it is killed, or its parent dies. */
static pid_t spawn(void)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid > 0)
		return pid;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		(void)pause();
}

static void reap(pid_t pid)
{
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void wait_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	assert_int_equal(poll(&p, 1, 10000), 1);
}

static void test_a_pidfd_follows_its_process_to_the_end(void **state)
{
	_cleanup_(fd_close) int fd = -1;
	pid_t pid = spawn();

	(void)state;
	fd = process_open(pid);
	assert_true(fd >= 0);
	assert_false(process_ended(fd));
	assert_int_equal(kill(pid, SIGKILL), 0);
	wait_readable(fd);
	assert_true(process_ended(fd)); /* a zombie has ended */
	reap(pid);
	assert_true(process_ended(fd));
	assert_int_equal(process_open(pid), -ESRCH);
}

static void test_start_times_tell_processes_apart(void **state)
{
	uint64_t own = 0, again = 0, child = 0;
	pid_t pid = spawn();

	(void)state;
	assert_int_equal(process_start_time(getpid(), &own), 0);
	assert_int_equal(process_start_time(getpid(), &again), 0);
	assert_int_equal(process_start_time(pid, &child), 0);
	assert_true(own > 0);
	assert_int_equal(own, again);
	assert_true(child >= own);
	assert_int_equal(kill(pid, SIGKILL), 0);
	reap(pid);
	assert_int_equal(process_start_time(pid, &child), -ESRCH);
}

/* /proc/PID/stat shows the name as it is, which its owner chooses. */
static void test_a_process_cannot_forge_its_start_time_by_its_name(void **state)
{
	char name[16] = { 0 };
	uint64_t before = 0, after = 0;

	(void)state;
	assert_int_equal(prctl(PR_GET_NAME, name), 0);
	assert_int_equal(process_start_time(getpid(), &before), 0);
	assert_int_equal(prctl(PR_SET_NAME, "x) 1 2 3 4 5 6"), 0);
	assert_int_equal(process_start_time(getpid(), &after), 0);
	assert_int_equal(prctl(PR_SET_NAME, name), 0);
	assert_int_equal(before, after);
}

static void test_only_the_very_same_process_is_opened(void **state)
{
	_cleanup_(fd_close) int fd = -1;
	uint64_t start = 0;
	pid_t pid = spawn();

	(void)state;
	assert_int_equal(process_start_time(pid, &start), 0);
	fd = process_open_same(pid, start);
	assert_true(fd >= 0);
	assert_int_equal(process_open_same(pid, start + 1), -ESRCH);
	assert_int_equal(process_open_same(pid, 0), -EINVAL);
	assert_int_equal(kill(pid, SIGKILL), 0);
	wait_readable(fd);
	assert_int_equal(process_open_same(pid, start), -ESRCH);
	reap(pid);
	assert_int_equal(process_open_same(pid, start), -ESRCH);
}

static void test_numbers_that_are_no_process(void **state)
{
	uint64_t start = 0;

	(void)state;
	assert_int_equal(process_open(0), -ESRCH);
	assert_int_equal(process_open(-1), -ESRCH);
	assert_int_equal(process_start_time(0, &start), -ESRCH);
	assert_int_equal(process_start_time(-5, &start), -ESRCH);
	assert_int_equal(process_open_same(0, 1), -ESRCH);
}

static void test_boot_and_namespace_are_the_same_for_all(void **state)
{
	char boot[BOOT_ID_SIZE], again[BOOT_ID_SIZE];
	uint64_t ns = 0;

	(void)state;
	assert_int_equal(process_boot_id(boot), 0);
	assert_int_equal(process_boot_id(again), 0);
	assert_int_equal(strlen(boot), BOOT_ID_SIZE - 1);
	assert_string_equal(boot, again);
	assert_int_equal(process_pidns(&ns), 0);
	assert_true(ns > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_pidfd_follows_its_process_to_the_end),
		cmocka_unit_test(test_start_times_tell_processes_apart),
		cmocka_unit_test(test_a_process_cannot_forge_its_start_time_by_its_name),
		cmocka_unit_test(test_only_the_very_same_process_is_opened),
		cmocka_unit_test(test_numbers_that_are_no_process),
		cmocka_unit_test(test_boot_and_namespace_are_the_same_for_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
