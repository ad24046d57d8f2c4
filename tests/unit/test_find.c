/* Where the client looks for a broker: flag, environment, the usual places, in this order. */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "clients/c/find.h"

static int clear_environment(void **state)
{
	static const char *const names[] = { "KEYBROKER_SOCKET", "KEYBROKER_ADMIN_SOCKET",
					     "XDG_RUNTIME_DIR", "XDG_STATE_HOME" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_int_equal(unsetenv(names[i]), 0);
	return setenv("HOME", "/home/somebody", 1);
}

/* What a search is told. */
struct given {
	bool admin;
	const char *socket, *admin_socket;
};

static void expect(const struct given *g, size_t n, const char *const paths[])
{
	struct find_paths found;

	assert_int_equal(g->admin ? find_admin_sockets(&found, g->admin_socket, g->socket)
				  : find_sockets(&found, g->socket),
			 0);
	assert_int_equal(found.n, n);
	for (size_t i = 0; i < n; i++)
		assert_string_equal(found.path[i], paths[i]);
	find_deinit(&found);
}

static void test_a_named_socket_is_the_only_one(void **state)
{
	struct given o = { .socket = "/tmp/x/keybroker.sock" };

	(void)state;
	(void)setenv("KEYBROKER_SOCKET", "unix:///srv/kb/keybroker.sock", 1);
	expect(&o, 1, (const char *const[]){ "/tmp/x/keybroker.sock" });
	o.socket = NULL;
	expect(&o, 1, (const char *const[]){ "/srv/kb/keybroker.sock" });
	(void)setenv("KEYBROKER_SOCKET", "/srv/kb/k.sock", 1);
	expect(&o, 1, (const char *const[]){ "/srv/kb/k.sock" });
}

static void test_the_usual_places(void **state)
{
	const struct given o = { 0 };
	char user[64];

	(void)state;
	(void)setenv("KEYBROKER_SOCKET", "", 1); /* empty counts as unset */
	(void)setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
	expect(&o, 2,
	       (const char *const[]){ "/run/user/7/keybroker/keybroker.sock",
				      "/run/keybroker/keybroker.sock" });
	(void)unsetenv("XDG_RUNTIME_DIR");
	(void)snprintf(user, sizeof(user), "/run/user/%u/keybroker/keybroker.sock", geteuid());
	expect(&o, 3,
	       (const char *const[]){ user, "/home/somebody/.local/state/keybroker/keybroker.sock",
				      "/run/keybroker/keybroker.sock" });
	(void)setenv("XDG_STATE_HOME", "/var/s", 1);
	expect(&o, 3,
	       (const char *const[]){ user, "/var/s/keybroker/keybroker.sock",
				      "/run/keybroker/keybroker.sock" });
}

static void test_the_admin_socket_stands_beside_the_clients_directory(void **state)
{
	struct given o = { .admin = true, .socket = "/run/keybroker/keybroker.sock" };

	(void)state;
	expect(&o, 1, (const char *const[]){ "/run/keybroker-admin/admin.sock" });
	o.socket = "/tmp/a//b/kb.sock";
	expect(&o, 1, (const char *const[]){ "/tmp/a//keybroker-admin/admin.sock" });
	o.socket = "b/kb.sock";
	expect(&o, 1, (const char *const[]){ "keybroker-admin/admin.sock" });
	o.socket = "kb.sock";
	expect(&o, 1, (const char *const[]){ "../keybroker-admin/admin.sock" });
	o.socket = NULL;
	(void)setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
	expect(&o, 2,
	       (const char *const[]){ "/run/user/7/keybroker-admin/admin.sock",
				      "/run/keybroker-admin/admin.sock" });
	(void)setenv("KEYBROKER_ADMIN_SOCKET", "/a/admin.sock", 1);
	expect(&o, 1, (const char *const[]){ "/a/admin.sock" });
	o.admin_socket = "/b/admin.sock";
	expect(&o, 1, (const char *const[]){ "/b/admin.sock" });
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_a_named_socket_is_the_only_one, clear_environment),
		cmocka_unit_test_setup(test_the_usual_places, clear_environment),
		cmocka_unit_test_setup(test_the_admin_socket_stands_beside_the_clients_directory,
				       clear_environment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
