/* Units from texts of /proc/PID/cgroup, as they were read on real systems. */
#include "test.h"

#include <stdio.h>
#include <string.h>

#include "core/cgroup.h"

static const struct {
	const char *about, *text, *unit, *user_unit;
} test_rows[] = {
	{ "a system service", "0::/system.slice/nginx.service\n", "nginx.service", "" },
	{ "an instance in a slice of its own",
	  "0::/system.slice/system-keybrokerd.slice/keybrokerd@a.service\n", "keybrokerd@a.service",
	  "" },
	{ "a payload below a delegated unit",
	  "0::/system.slice/docker.service/web.service/inner.scope\n", "docker.service", "" },
	{ "a container of docker",
	  "0::/system.slice/docker-4c01db0b339c0d5f0f1bd7a2d9ae6b4b.scope\n",
	  "docker-4c01db0b339c0d5f0f1bd7a2d9ae6b4b.scope", "" },
	{ "a machine that runs systemd itself",
	  "0::/machine.slice/machine-deb.scope/payload/system.slice/web.service\n",
	  "machine-deb.scope", "" },
	{ "kubernetes",
	  "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod2f.slice/"
	  "cri-containerd-ab.scope\n",
	  "cri-containerd-ab.scope", "" },
	{ "a login", "0::/user.slice/user-1000.slice/session-3.scope\n", "session-3.scope", "" },
	{ "a user's service",
	  "0::/user.slice/user-1000.slice/user@1000.service/app.slice/agent.service\n",
	  "user@1000.service", "agent.service" },
	{ "a user's service in slices of its own",
	  "0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-agents.slice/"
	  "app-agents@7.service\n",
	  "user@1000.service", "app-agents@7.service" },
	{ "a terminal of a desktop",
	  "0::/user.slice/user-1000.slice/user@1000.service/app.slice/"
	  "app-org.gnome.Terminal.slice/vte-spawn-0a1f.scope\n",
	  "user@1000.service", "vte-spawn-0a1f.scope" },
	{ "a user's manager itself",
	  "0::/user.slice/user-1000.slice/user@1000.service/init.scope\n", "user@1000.service",
	  "init.scope" },
	{ "what a user named like a unit of the system",
	  "0::/user.slice/user-1000.slice/user@1000.service/system.slice/nginx.service\n",
	  "user@1000.service", "nginx.service" },
	{ "init", "0::/init.scope\n", "init.scope", "" },
	{ "an escaped name: the controller cpu has files that begin so",
	  "0::/system.slice/_cpu.service\n", "cpu.service", "" },
	{ "a name with an escape of systemd's", "0::/system.slice/dev-disk-by\\x2did.swap\n",
	  "dev-disk-by\\x2did.swap", "" },
	{ "a hybrid system",
	  "11:memory:/system.slice/cron.service\n10:pids:/system.slice/cron.service\n"
	  "1:name=systemd:/system.slice/cron.service\n0::/system.slice/cron.service\n",
	  "cron.service", "" },
	{ "without a line break at the end", "0::/system.slice/ssh.service", "ssh.service", "" },

	{ "nothing", "", "", "" },
	{ "the root", "0::/\n", "", "" },
	{ "only v1", "4:memory:/system.slice/a.service\n1:name=systemd:/system.slice/a.service\n",
	  "", "" },
	{ "a controller's line that only begins with a 0", "10::/system.slice/a.service\n", "",
	  "" },
	{ "a slice alone", "0::/system.slice\n", "", "" },
	{ "a container's own cgroup namespace", "0::/\n", "", "" },
	{ "outside the reader's namespace", "0::/../../system.slice/nginx.service\n", "", "" },
	{ "a way out further down", "0::/system.slice/nginx.service/../x\n", "", "" },
	{ "a cgroup that was removed", "0::/system.slice/nginx.service (deleted)\n", "", "" },
	{ "a directory that is no unit", "0::/system.slice/lxc.payload/nginx.service\n", "", "" },
	{ "a directory of a container manager without systemd", "0::/docker/4c01db0b339c\n", "",
	  "" },
	{ "a timer, which runs nothing", "0::/system.slice/apt.timer\n", "", "" },
	{ "a template", "0::/system.slice/getty@.service\n", "", "" },
	{ "an instance of nothing", "0::/system.slice/@tty1.service\n", "", "" },
	{ "a suffix without a name", "0::/system.slice/.service\n", "", "" },
	{ "characters that no unit has", "0::/system.slice/ngi nx.service\n", "", "" },
	{ "a user's manager without a number", "0::/user.slice/user@alice.service/a.service\n",
	  "user@alice.service", "" },
	{ "a user's payload that is no unit",
	  "0::/user.slice/user-1000.slice/user@1000.service/app.slice/tmux\n", "user@1000.service",
	  "" },
	{ "two slashes", "0:://system.slice/nginx.service\n", "", "" },
};

static void test_recorded_texts(_unused_ void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(test_rows); i++) {
		char unit[PEER_UNIT_SIZE] = "before", user_unit[PEER_UNIT_SIZE] = "before";

		cgroup_units(test_rows[i].text, unit, user_unit);
		if (strcmp(unit, test_rows[i].unit) != 0 ||
		    strcmp(user_unit, test_rows[i].user_unit) != 0)
			fail_msg("%s: \"%s\" and \"%s\", not \"%s\" and \"%s\"", test_rows[i].about,
				 unit, user_unit, test_rows[i].unit, test_rows[i].user_unit);
	}
}

/* 255 bytes are a unit's; what is longer is no unit, and never a shorter one. */
static void test_a_name_is_never_cut(_unused_ void **state)
{
	char unit[PEER_UNIT_SIZE], user_unit[PEER_UNIT_SIZE], text[600];

	for (int n = 254; n <= 258; n++) {
		(void)snprintf(text, sizeof(text), "0::/%0*d.service\n", n - 8, 7);
		cgroup_units(text, unit, user_unit);
		assert_int_equal(strlen(unit), n < PEER_UNIT_SIZE ? n : 0);
	}
}

static void test_names_of_units(_unused_ void **state)
{
	assert_true(cgroup_is_unit("a.service") && cgroup_is_unit("session-3.scope"));
	assert_false(cgroup_is_unit("") || cgroup_is_unit("service") || cgroup_is_unit("a.slice") ||
		     cgroup_is_unit("a/b.service"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_recorded_texts),
		cmocka_unit_test(test_a_name_is_never_cut),
		cmocka_unit_test(test_names_of_units),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
