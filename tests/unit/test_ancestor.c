/* Ancestors: only a living one of the same uid, named by a pidfd. */
#include "test.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "io/ancestor.h"
#include "io/process.h"

/* A child that waits until it is killed. */
static pid_t test_child(int *ret_pidfd)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		for (;;)
			(void)pause();
	*ret_pidfd = process_open(pid);
	assert_true(*ret_pidfd >= 0);
	return pid;
}

static void test_end(pid_t pid, int *pidfd)
{
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	fd_close(pidfd);
}

static struct peer test_peer(pid_t pid)
{
	struct peer p = { .uid = geteuid(), .pid = pid };

	assert_int_equal(process_start_time(pid, &p.start_time), 0);
	return p;
}

static enum ancestor test_check(const struct peer *p, int peer_pidfd, int pidfd)
{
	uint64_t start = 0, wanted = 0;
	pid_t pid = 0;
	enum ancestor a = ancestor_check(p, peer_pidfd, pidfd, &pid, &start);

	if (a != ANCESTOR_YES)
		return a;
	assert_int_equal(process_start_time(pid, &wanted), 0);
	assert_int_equal(start, wanted);
	return a;
}

static void test_ancestors_and_others(void **state)
{
	_cleanup_(fd_close) int me = process_open(getpid());
	_cleanup_(fd_close) int above = process_open(getppid());
	int child_fd, other_fd;
	pid_t child = test_child(&child_fd), other = test_child(&other_fd);
	struct peer p = test_peer(child);

	(void)state;
	assert_int_equal(test_check(&p, child_fd, me), ANCESTOR_YES);
	assert_int_equal(test_check(&p, child_fd, above), ANCESTOR_YES);
	assert_int_equal(test_check(&p, child_fd, other_fd), ANCESTOR_NO);
	assert_int_equal(test_check(&p, child_fd, child_fd), ANCESTOR_NO); /* itself */
	assert_int_equal(test_check(&p, child_fd, STDIN_FILENO), ANCESTOR_NO_PIDFD);
	assert_int_equal(test_check(&p, child_fd, -1), ANCESTOR_NO_PIDFD);
	assert_int_equal(test_check(&p, -1, me), ANCESTOR_UNSEEN);
	p.uid++;
	assert_int_equal(test_check(&p, child_fd, me), ANCESTOR_OTHER_UID);
	p.uid--;
	p.start_time++; /* its number has gone to another process */
	assert_int_equal(test_check(&p, child_fd, me), ANCESTOR_GONE);
	p.pid = 0;
	assert_int_equal(test_check(&p, child_fd, me), ANCESTOR_UNSEEN);
	test_end(child, &child_fd);
	test_end(other, &other_fd);
}

static void test_who_has_ended_is_nobodys_ancestor(void **state)
{
	_cleanup_(fd_close) int me = process_open(getpid());
	int child_fd, kept;
	pid_t child = test_child(&child_fd);
	struct peer p = test_peer(child), self = test_peer(getpid());

	(void)state;
	kept = dup(child_fd);
	assert_int_equal(process_kill(child_fd, 5000), 0);
	assert_int_equal(test_check(&p, kept, me), ANCESTOR_GONE); /* though /proc has it yet */
	test_end(child, &child_fd);
	assert_int_equal(test_check(&p, kept, me), ANCESTOR_GONE);
	assert_int_equal(test_check(&self, me, kept), ANCESTOR_GONE);
	fd_close(&kept);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ancestors_and_others),
		cmocka_unit_test(test_who_has_ended_is_nobodys_ancestor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
