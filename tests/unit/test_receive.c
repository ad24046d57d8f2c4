/* Descriptors that come with bytes: a pidfd is handed on, all others are closed. */
#include "test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "io/process.h"
#include "io/receive.h"

#define MANY 20

/* Sends one byte with `n` descriptors. */
static void test_send(int fd, const int *fds, size_t n)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int) * MANY)];
	} control = { 0 };
	char byte = 'x';
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n > 0) {
		m.msg_control = control.bytes;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * n);
		control.header = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
						   .cmsg_type = SCM_RIGHTS,
						   .cmsg_len = CMSG_LEN(sizeof(int) * n) };
		memcpy(CMSG_DATA(&control.header), fds, sizeof(int) * n);
	}
	assert_int_equal(sendmsg(fd, &m, 0), 1);
}

static int test_lowest_free(void)
{
	int fd = dup(STDIN_FILENO);

	assert_true(fd >= 0);
	(void)close(fd);
	return fd;
}

static int test_n_open(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	(void)closedir(d);
	return n;
}

/* What is no pidfd is not handed on, also in front of one that is. */
static void test_others_are_closed(_unused_ void **state)
{
	const int fds[] = { STDIN_FILENO, pidfd_open(getpid(), 0) };
	struct received got;
	int pair[2];
	pid_t pid;
	char byte;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	test_send(pair[0], fds, 1);
	assert_int_equal(receive(pair[1], &byte, 1, &got), 1);
	assert_int_equal(got.fd, -1);
	test_send(pair[0], fds, 2);
	assert_int_equal(receive(pair[1], &byte, 1, &got), 1);
	assert_int_equal(process_pid_of(got.fd, &pid), 0);
	assert_int_equal(pid, getpid());
	fd_close(&got.fd);
	(void)close(fds[1]);
	(void)close(pair[0]);
	(void)close(pair[1]);
}

/* `creds`: the socket says who sends, which takes room. */
static void test_one_is_handed_on(int creds)
{
	int fds[MANY];
	struct received got;
	int pair[2], next, n_open;
	char byte;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &creds, sizeof(creds)), 0);
	fds[0] = pidfd_open(getpid(), 0);
	assert_true(fds[0] >= 0);
	for (size_t i = 1; i < MANY; i++)
		fds[i] = fds[0];
	next = test_lowest_free();
	n_open = test_n_open();
	for (size_t n = 0; n <= MANY; n++) {
		test_send(pair[0], fds, n);
		assert_int_equal(receive(pair[1], &byte, 1, &got), 1);
		assert_int_equal(byte, 'x');
		if (n > 0)
			assert_in_range(got.fd, next, next + 2); /* others are being closed */
		else
			assert_int_equal(got.fd, -1);
		assert_int_equal(got.sender, creds ? getpid() : 0);
		if (n > 0)
			assert_true(fcntl(got.fd, F_GETFD) & FD_CLOEXEC);
		fd_close(&got.fd);
		while (test_lowest_free() != next || test_n_open() != n_open) /* no other is */
			(void)usleep(100);
	}
	assert_int_equal(receive(pair[1], &byte, 1, &got), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(got.fd, -1);
	(void)close(pair[0]);
	assert_int_equal(receive(pair[1], &byte, 1, &got), 0);
	(void)close(pair[1]);
}

/* A child speaks on its parent's connection: whose message it is, the kernel says. */
static void test_a_message_is_its_senders(_unused_ void **state)
{
	const int on = 1;
	struct received got;
	pid_t child;
	int pair[2];
	char text[8];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)), 0);
	assert_int_equal(write(pair[1], "a", 1), 1);
	assert_int_equal(receive(pair[0], text, sizeof(text), &got), 1);
	assert_int_equal(got.sender, getpid());
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(write(pair[1], "b", 1) != 1);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_int_equal(receive(pair[0], text, sizeof(text), &got), 1);
	assert_int_equal(got.sender, child);
	assert_int_equal(got.fd, -1);
	(void)close(pair[0]);
	(void)close(pair[1]);
}

static void test_one_descriptor_is_handed_on(void **state)
{
	(void)state;
	test_one_is_handed_on(0);
	test_one_is_handed_on(1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_others_are_closed),
		cmocka_unit_test(test_one_descriptor_is_handed_on),
		cmocka_unit_test(test_a_message_is_its_senders),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
