/* Listening sockets: a dead one is replaced, a living one and everything else is left alone. */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "io/socket.h"

struct place {
	char root[32], dir[64], path[96];
};

static struct place place_new(void)
{
	struct place p = { .root = "/tmp/socket-XXXXXX" };

	assert_non_null(mkdtemp(p.root));
	(void)snprintf(p.dir, sizeof(p.dir), "%s/run", p.root);
	(void)snprintf(p.path, sizeof(p.path), "%s/keybroker.sock", p.dir);
	return p;
}

static void place_remove(const struct place *p)
{
	(void)unlink(p->path);
	(void)rmdir(p->dir);
	assert_int_equal(rmdir(p->root), 0);
}

static mode_t mode_of(const char *path)
{
	struct stat st;

	assert_int_equal(lstat(path, &st), 0);
	return st.st_mode & 07777;
}

static int connect_to(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	if (connect(fd, (const struct sockaddr *)&a, sizeof(a)) == 0)
		return fd;
	(void)close(fd);
	return -1;
}

static int listen_on(const char *path)
{
	int fd = -1;

	assert_int_equal(socket_listen(path, 0755, 0660, (gid_t)-1, &fd), 0);
	return fd;
}

static void test_modes_hold_whatever_the_umask(void **state)
{
	static const mode_t masks[] = { 0, 0022, 0777 };
	struct place p = place_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(masks); i++) {
		int fd = -1;
		mode_t old = umask(masks[i]);
		int r = socket_listen(p.path, 0750, 0660, (gid_t)-1, &fd);

		(void)umask(old);
		assert_int_equal(r, 0);
		assert_int_equal(mode_of(p.path), 0660);
		assert_int_equal(mode_of(p.dir), 0750);
		(void)close(fd);
		assert_int_equal(unlink(p.path), 0);
		assert_int_equal(rmdir(p.dir), 0);
	}
	place_remove(&p);
}

static void test_clients_can_connect_and_nothing_is_inherited(void **state)
{
	struct place p = place_new();
	_cleanup_(fd_close) int fd = listen_on(p.path);
	_cleanup_(fd_close) int client = connect_to(p.path);

	(void)state;
	assert_true(client >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	place_remove(&p);
}

static void test_leading_directories_are_private(void **state)
{
	struct place p = place_new();
	char deep[96], middle[80], path[128];
	int fd = -1;

	(void)state;
	(void)snprintf(middle, sizeof(middle), "%s/middle", p.dir);
	(void)snprintf(deep, sizeof(deep), "%s/deep", middle);
	(void)snprintf(path, sizeof(path), "%s/s", deep);
	assert_int_equal(socket_listen(path, 0755, 0600, (gid_t)-1, &fd), 0);
	assert_int_equal(mode_of(p.dir), 0700);
	assert_int_equal(mode_of(middle), 0700);
	assert_int_equal(mode_of(deep), 0755);
	(void)close(fd);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(deep), 0);
	assert_int_equal(rmdir(middle), 0);
	place_remove(&p);
}

static void test_an_existing_directory_keeps_its_mode(void **state)
{
	struct place p = place_new();

	(void)state;
	assert_int_equal(mkdir(p.dir, 0711), 0);
	_cleanup_(fd_close) int fd = listen_on(p.path);
	assert_true(fd >= 0);
	assert_int_equal(mode_of(p.dir), 0711);
	place_remove(&p);
}

static void test_a_dead_socket_is_replaced(void **state)
{
	struct place p = place_new();
	int dead = listen_on(p.path);

	(void)state;
	(void)close(dead);
	assert_int_equal(connect_to(p.path), -1);
	_cleanup_(fd_close) int fd = listen_on(p.path);
	_cleanup_(fd_close) int client = connect_to(p.path);
	assert_true(fd >= 0 && client >= 0);
	place_remove(&p);
}

static void test_a_served_socket_is_left_alone(void **state)
{
	struct place p = place_new();
	_cleanup_(fd_close) int served = listen_on(p.path);
	int fd = -1;

	(void)state;
	assert_true(served >= 0);
	assert_int_equal(socket_listen(p.path, 0755, 0600, (gid_t)-1, &fd), SOCKET_E_SERVED);
	assert_int_equal(fd, -1);
	assert_int_equal(mode_of(p.path), 0660);
	_cleanup_(fd_close) int client = connect_to(p.path);
	assert_true(client >= 0);
	place_remove(&p);
}

static void test_a_full_backlog_is_served_too(void **state)
{
	struct place p = place_new();
	_cleanup_(fd_close) int served = listen_on(p.path);
	_cleanup_(fd_close) int one = -1;
	int fd = -1;

	(void)state;
	assert_int_equal(listen(served, 0), 0);
	one = connect_to(p.path);
	assert_int_equal(socket_listen(p.path, 0755, 0600, (gid_t)-1, &fd), SOCKET_E_SERVED);
	place_remove(&p);
}

static void test_a_socket_of_another_type_is_left_alone(void **state)
{
	struct place p = place_new();
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	_cleanup_(fd_close) int other = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int fd = -1;

	(void)state;
	assert_int_equal(mkdir(p.dir, 0755), 0);
	(void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", p.path);
	assert_int_equal(bind(other, (const struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(socket_listen(p.path, 0755, 0600, (gid_t)-1, &fd), SOCKET_E_SERVED);
	place_remove(&p);
}

static void test_a_file_is_never_removed(void **state)
{
	struct place p = place_new();
	int fd = -1;

	(void)state;
	assert_int_equal(mkdir(p.dir, 0755), 0);
	int file = open(p.path, O_CREAT | O_WRONLY | O_CLOEXEC, 0640);
	assert_true(file >= 0);
	(void)close(file);
	assert_int_equal(socket_listen(p.path, 0755, 0600, (gid_t)-1, &fd), SOCKET_E_ACCESS);
	assert_int_equal(mode_of(p.path), 0640);
	assert_int_equal(unlink(p.path), 0);
	assert_int_equal(symlink("/dev/null", p.path), 0);
	assert_int_equal(socket_listen(p.path, 0755, 0600, (gid_t)-1, &fd), SOCKET_E_ACCESS);
	assert_int_equal(fd, -1);
	place_remove(&p);
}

static void test_a_directory_that_others_can_write_is_refused(void **state)
{
	static const mode_t modes[] = { 0777, 01777, 0775, 0757 };
	struct place p = place_new();
	int fd = -1;

	(void)state;
	assert_int_equal(mkdir(p.dir, 0700), 0);
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		assert_int_equal(chmod(p.dir, modes[i]), 0);
		assert_int_equal(socket_listen(p.path, 0755, 0600, (gid_t)-1, &fd),
				 SOCKET_E_ACCESS);
	}
	assert_int_equal(access(p.path, F_OK), -1);
	place_remove(&p);
}

static void test_a_directory_of_somebody_else_is_refused(void **state)
{
	struct place p = place_new();
	int fd = -1;

	(void)state;
	if (geteuid() != 0)
		skip(); /* needs chown(2) */
	assert_int_equal(mkdir(p.dir, 0755), 0);
	assert_int_equal(chown(p.dir, 4711, 4711), 0);
	assert_int_equal(socket_listen(p.path, 0755, 0600, (gid_t)-1, &fd), SOCKET_E_ACCESS);
	place_remove(&p);
}

static void test_the_group_is_set(void **state)
{
	struct place p = place_new();
	struct stat st;
	int fd = -1;

	(void)state;
	if (geteuid() != 0)
		skip(); /* needs chown(2) to a foreign group */
	assert_int_equal(socket_listen(p.path, 0755, 0660, 4711, &fd), 0);
	assert_int_equal(stat(p.path, &st), 0);
	assert_int_equal(st.st_gid, 4711);
	assert_int_equal(st.st_uid, 0);
	assert_int_equal(st.st_mode & 07777, 0660);
	(void)close(fd);
	place_remove(&p);
}

/* A group that we may not give it: better no socket than one that the wrong people can use. */
static void test_a_group_that_cannot_be_set_leaves_no_socket(void **state)
{
	struct place p = place_new();
	int fd = -1, r;

	(void)state;
	if (geteuid() == 0) {
		assert_int_equal(chown(p.root, 4711, (gid_t)-1), 0);
		assert_int_equal(seteuid(4711), 0);
	}
	r = socket_listen(p.path, 0755, 0660, 1, &fd);
	if (getuid() == 0)
		assert_int_equal(seteuid(0), 0);
	assert_int_equal(r, -EPERM);
	assert_int_equal(fd, -1);
	assert_int_equal(access(p.path, F_OK), -1);
	place_remove(&p);
}

static void test_paths_that_do_not_fit_are_an_error(void **state)
{
	struct sockaddr_un a;
	char path[sizeof(a.sun_path) + 1];
	int fd = -1;

	(void)state;
	memset(path, 'x', sizeof(path));
	path[0] = '/';
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(socket_listen(path, 0755, 0600, (gid_t)-1, &fd), -ENAMETOOLONG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_modes_hold_whatever_the_umask),
		cmocka_unit_test(test_clients_can_connect_and_nothing_is_inherited),
		cmocka_unit_test(test_leading_directories_are_private),
		cmocka_unit_test(test_an_existing_directory_keeps_its_mode),
		cmocka_unit_test(test_a_dead_socket_is_replaced),
		cmocka_unit_test(test_a_served_socket_is_left_alone),
		cmocka_unit_test(test_a_full_backlog_is_served_too),
		cmocka_unit_test(test_a_socket_of_another_type_is_left_alone),
		cmocka_unit_test(test_a_file_is_never_removed),
		cmocka_unit_test(test_a_directory_that_others_can_write_is_refused),
		cmocka_unit_test(test_a_directory_of_somebody_else_is_refused),
		cmocka_unit_test(test_the_group_is_set),
		cmocka_unit_test(test_a_group_that_cannot_be_set_leaves_no_socket),
		cmocka_unit_test(test_paths_that_do_not_fit_are_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
