/* The places of files, by systemd's and XDG's variables. Looks at directories, creates none. */
#include "io/paths.h"

#include <errno.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"

#define PATHS_CONFIG "keybroker/keybroker.conf"
#define PATHS_SEAL_KEY "keybroker/seal.key"
#define PATHS_SOCKET "keybroker.sock"

/* As XDG says: a relative path in such a variable is to be ignored. */
static const char *paths_variable(const char *name)
{
	const char *value = getenv(name);

	return value && *value == '/' ? value : NULL;
}

static char *paths_home(void)
{
	const char *home = paths_variable("HOME");
	const struct passwd *pw;

	if (home)
		return xstrdup(home);
	pw = getpwuid(geteuid());
	return xstrdup(pw && pw->pw_dir && *pw->pw_dir == '/' ? pw->pw_dir : "/");
}

/* $VARIABLE/leaf, else ~/otherwise/leaf. */
static char *paths_xdg(const char *variable, const char *otherwise, const char *leaf)
{
	const char *base = paths_variable(variable);
	_cleanup_(freep) char *home = NULL;

	if (base)
		return xasprintf("%s/%s", base, leaf);
	home = paths_home();
	return xasprintf("%s/%s/%s", home, otherwise, leaf);
}

/* The directory for sockets: also found where a login's variables did not come along (cron, sudo).
 */
static char *paths_user_socket(const char *state_dir)
{
	const char *base = paths_variable("XDG_RUNTIME_DIR");
	_cleanup_(freep) char *run = NULL;
	struct stat st;

	if (base)
		return xasprintf("%s/keybroker/" PATHS_SOCKET, base);
	run = xasprintf("/run/user/%u", geteuid());
	if (stat(run, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid())
		return xasprintf("%s/keybroker/" PATHS_SOCKET, run);
	return xasprintf("%s/" PATHS_SOCKET, state_dir);
}

/* systemd gives a list if the unit names several directories; ours is the first. */
static char *paths_first(const char *variable, const char *otherwise)
{
	const char *value = paths_variable(variable);

	return value ? xasprintf("%.*s", (int)strcspn(value, ":"), value) : xstrdup(otherwise);
}

static void paths_init_system(struct paths *p)
{
	_cleanup_(freep) char *run = paths_first("RUNTIME_DIRECTORY", "/run/keybroker");

	p->config_file = xstrdup("/etc/" PATHS_CONFIG);
	p->seal_key = xstrdup("/etc/" PATHS_SEAL_KEY);
	p->state_dir = paths_first("STATE_DIRECTORY", "/var/lib/keybroker");
	p->socket = xasprintf("%s/" PATHS_SOCKET, run);
}

void paths_init(struct paths *ret, bool system)
{
	struct paths p = { 0 };

	p.system_mode = system ||
			(paths_variable("RUNTIME_DIRECTORY") && paths_variable("STATE_DIRECTORY"));
	if (p.system_mode) {
		paths_init_system(&p);
	} else {
		p.config_file = paths_xdg("XDG_CONFIG_HOME", ".config", PATHS_CONFIG);
		p.seal_key = paths_xdg("XDG_CONFIG_HOME", ".config", PATHS_SEAL_KEY);
		p.state_dir = paths_xdg("XDG_STATE_HOME", ".local/state", "keybroker");
		p.socket = paths_user_socket(p.state_dir);
	}
	*ret = p;
}

void paths_deinit(struct paths *p)
{
	free(p->config_file);
	free(p->state_dir);
	free(p->socket);
	free(p->seal_key);
	*p = (struct paths){ 0 };
}

char *paths_admin_socket(const char *socket)
{
	_cleanup_(freep) char *dir = xstrdup(socket);
	char *slash;

	/* twice: the file, then its directory, which is made to be mounted into containers */
	for (int i = 0; i < 2; i++) {
		slash = strrchr(dir, '/');
		if (slash)
			*slash = '\0';
	}
	return xasprintf("%s/keybroker-admin/admin.sock", dir);
}

char *paths_absolute(const char *path)
{
	_cleanup_(freep) char *here = NULL;

	if (*path == '/')
		return xstrdup(path);
	here = get_current_dir_name();
	return xasprintf("%s/%s", here ? here : "", path);
}

int paths_make_dirs(const char *path, mode_t mode)
{
	_cleanup_(freep) char *dir = xstrdup(path);

	for (char *slash = strchr(dir + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(dir, mode) < 0 && errno != EEXIST) {
			log_error("%s cannot be made: %s", dir, strerrordesc_np(errno));
			return -errno;
		}
		*slash = '/';
	}
	return 0;
}
