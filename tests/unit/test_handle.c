/* What is said of sockets that cannot be used: closed, dead, or no sockets at all. */
#include "test_listening.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "clients/c/call.h"
#include "clients/c/fault.h"

static enum keybroker_code try_place(const char *path, struct keybroker_error *ret)
{
	const struct keybroker_options options = { .socket = path };
	_cleanup_(keybroker_closep) struct keybroker *k = NULL;

	return call_open(&k, &options, false, NULL, ret);
}

/* Opens as somebody who is denied what the modes deny: root is denied nothing. */
static void test_denied(const struct place *p, struct keybroker_error *ret)
{
	if (geteuid() == 0)
		assert_int_equal(seteuid(4321), 0);
	enum keybroker_code code = try_place(p->path, ret);
	if (getuid() == 0)
		assert_int_equal(seteuid(0), 0);
	assert_int_equal(code, KEYBROKER_UNREACHABLE);
}

/* A socket that is made for a group asks for its members, any other is its owner's own. */
static void test_permission_denied_advises_by_what_is_closed(void **state)
{
	static const struct {
		mode_t dir, socket;
		const char *advice; /* NULL: the group's name */
	} rows[] = {
		{ 0755, 0060, NULL },
		{ 0755, 0, "its owner's alone" },
		{ 0, 0660, "its owner's alone" },
	};
	struct place *p = *state;

	if (geteuid() == 0) /* a group of its own, which is not root's */
		assert_int_equal(chown(p->path, (uid_t)-1, 1), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct keybroker_error e;

		assert_int_equal(chmod(p->path, rows[i].socket), 0);
		assert_int_equal(chmod(p->dir, rows[i].dir), 0);
		test_denied(p, &e);
		assert_int_equal(e.tried[0].error, EACCES);
		const struct group *g = getgrgid(geteuid() == 0 ? 1 : getegid());
		assert_non_null(g);
		assert_non_null(strstr(e.advice, rows[i].advice ? rows[i].advice : g->gr_name));
		assert_null(strstr(e.advice, "keybroker-clients"));
	}
	assert_int_equal(chmod(p->dir, 0755), 0);
}

static void test_what_is_no_socket_is_named_so(void **state)
{
	struct keybroker_error e;

	(void)state;
	assert_int_equal(try_place("/etc/passwd", &e), KEYBROKER_UNREACHABLE);
	assert_int_equal(e.tried[0].error, ENOTSOCK);
	assert_null(strstr(e.advice, "Permission"));
}

/* A dead socket would have been the caller's own: then no group helps. */
static void test_a_dead_socket_outweighs_a_closed_one(void **state)
{
	struct keybroker_error e = { .n_tried = 2 };

	(void)state;
	e.tried[0].error = ENOENT;
	e.tried[1].error = EACCES;
	assert_true(fault_is_access(&e));
	e.tried[0].error = ECONNREFUSED;
	assert_false(fault_is_access(&e));
	e.tried[1].error = ENOENT;
	assert_false(fault_is_access(&e));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_permission_denied_advises_by_what_is_closed,
						setup, teardown),
		cmocka_unit_test(test_what_is_no_socket_is_named_so),
		cmocka_unit_test(test_a_dead_socket_outweighs_a_closed_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
