/* The service manager is told in one datagram, on a path or an abstract name, or not at all. */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "io/notify.h"

static int manager_bind(const char *name, size_t n)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	memcpy(a.sun_path, name, n);
	assert_int_equal(bind(fd, (const struct sockaddr *)&a,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)),
			 0);
	return fd;
}

static void manager_expect(int fd, const char *text)
{
	char got[2048] = "";

	assert_int_equal(recv(fd, got, sizeof(got), 0), strlen(text));
	assert_string_equal(got, text);
}

static void test_a_path_is_told(void **state)
{
	char dir[] = "/tmp/notify-XXXXXX", path[64];

	(void)state;
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/notify", dir);
	_cleanup_(fd_close) int fd = manager_bind(path, strlen(path) + 1);
	assert_int_equal(setenv("NOTIFY_SOCKET", path, 1), 0);
	notify_send("READY=1\nSTATUS=%d profiles", 2);
	manager_expect(fd, "READY=1\nSTATUS=2 profiles");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

static void test_an_abstract_name_is_told(void **state)
{
	char name[64];
	int n = snprintf(name, sizeof(name), "@keybroker-test-%d", (int)getpid());

	(void)state;
	assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
	name[0] = '\0';
	_cleanup_(fd_close) int fd = manager_bind(name, (size_t)n);
	notify_send("WATCHDOG=1");
	manager_expect(fd, "WATCHDOG=1");
}

static void test_without_a_manager_nothing_happens(void **state)
{
	static char too_long[300];

	(void)state;
	memset(too_long, '/', sizeof(too_long) - 1);
	assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
	notify_send("READY=1");
	const char *const useless[] = { "", "x", "@", "/", "/nonexistent/notify", too_long };
	for (size_t i = 0; i < ARRAY_SIZE(useless); i++) {
		assert_int_equal(setenv("NOTIFY_SOCKET", useless[i], 1), 0);
		notify_send("READY=1");
	}
	assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_path_is_told),
		cmocka_unit_test(test_an_abstract_name_is_told),
		cmocka_unit_test(test_without_a_manager_nothing_happens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
