/* Places by systemd's and XDG's variables. */
#include "test.h"

#include "config_fixture.h"
#include "io/paths.h"

static void test_paths(bool system, const char *config, const char *state, const char *socket,
		       const char *seal_key)
{
	struct paths p;

	paths_init(&p, system);
	assert_string_equal(p.config_file, config);
	assert_string_equal(p.state_dir, state);
	assert_string_equal(p.socket, socket);
	assert_string_equal(p.seal_key, seal_key);
	paths_deinit(&p);
}

static void test_xdg_variables_move_each_place(_unused_ void **state)
{
	assert_int_equal(setenv("XDG_CONFIG_HOME", "/c", 1), 0);
	assert_int_equal(setenv("XDG_STATE_HOME", "/s", 1), 0);
	assert_int_equal(setenv("XDG_RUNTIME_DIR", "/r", 1), 0);
	test_paths(false, "/c/keybroker/keybroker.conf", "/s/keybroker",
		   "/r/keybroker/keybroker.sock", "/c/keybroker/seal.key");
}

static void test_without_them_all_is_below_home(_unused_ void **state)
{
	struct paths p;
	char run[64];
	struct stat st;

	assert_int_equal(setenv("HOME", "/h", 1), 0);
	assert_int_equal(setenv("XDG_CONFIG_HOME", "relative", 1), 0); /* to be ignored */
	paths_init(&p, false);
	assert_false(p.system_mode);
	assert_string_equal(p.config_file, "/h/.config/keybroker/keybroker.conf");
	assert_string_equal(p.state_dir, "/h/.local/state/keybroker");
	(void)snprintf(run, sizeof(run), "/run/user/%u", geteuid());
	if (stat(run, &st) == 0 && st.st_uid == geteuid())
		assert_memory_equal(p.socket, run, strlen(run));
	else
		assert_string_equal(p.socket, "/h/.local/state/keybroker/keybroker.sock");
	paths_deinit(&p);
}

static void test_systemd_s_variables_make_the_system_mode(_unused_ void **state)
{
	struct paths p;

	assert_int_equal(setenv("RUNTIME_DIRECTORY", "/run/kb:/run/kb-admin", 1), 0);
	assert_int_equal(setenv("XDG_CONFIG_HOME", "/c", 1), 0);
	paths_init(&p, false);
	assert_false(p.system_mode); /* both are needed */
	paths_deinit(&p);
	assert_int_equal(setenv("STATE_DIRECTORY", "/var/lib/kb", 1), 0);
	test_paths(false, "/etc/keybroker/keybroker.conf", "/var/lib/kb", "/run/kb/keybroker.sock",
		   "/etc/keybroker/seal.key");
}

static void test_the_flag_makes_it_too(_unused_ void **state)
{
	test_paths(true, "/etc/keybroker/keybroker.conf", "/var/lib/keybroker",
		   "/run/keybroker/keybroker.sock", "/etc/keybroker/seal.key");
}

static void test_a_missing_home_is_looked_up(_unused_ void **state)
{
	struct paths p;

	assert_int_equal(unsetenv("HOME"), 0);
	paths_init(&p, false);
	assert_int_equal(p.config_file[0], '/');
	assert_non_null(strstr(p.config_file, "/.config/keybroker/keybroker.conf"));
	paths_deinit(&p);
}

/* The client's directory gets mounted into containers, so the admin's socket is not in it. */
static void test_the_admin_socket_stands_beside_the_directory(_unused_ void **state)
{
	static const char *const places[][2] = {
		{ "/run/keybroker/keybroker.sock", "/run/keybroker-admin/admin.sock" },
		{ "/a/b/c.sock", "/a/keybroker-admin/admin.sock" },
		{ "/c.sock", "/keybroker-admin/admin.sock" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		char *admin = paths_admin_socket(places[i][0]);

		assert_string_equal(admin, places[i][1]);
		free(admin);
	}
}

static void test_directories_are_made_as_asked(void **state)
{
	struct fixture *f = *state;
	char path[256];
	struct stat st;

	assert_true(snprintf(path, sizeof(path), "%s/a/b/file", f->dir) < 256);
	assert_int_equal(paths_make_dirs(path, 0700), 0);
	assert_int_equal(paths_make_dirs(path, 0700), 0);
	assert_int_equal(stat(path, &st), -1);
	*strrchr(path, '/') = '\0';
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_xdg_variables_move_each_place),
		TEST(test_without_them_all_is_below_home),
		TEST(test_systemd_s_variables_make_the_system_mode),
		TEST(test_the_flag_makes_it_too),
		TEST(test_a_missing_home_is_looked_up),
		TEST(test_the_admin_socket_stands_beside_the_directory),
		TEST(test_directories_are_made_as_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
