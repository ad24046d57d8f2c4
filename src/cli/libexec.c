/* Finds and runs a program of libexec/keybroker. */
#include "cli/libexec.h"

#include <errno.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "cli/cli.h"

/* The directory of this very program; "" if /proc does not tell. */
static char *libexec_here(void)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	char *slash;

	path[n > 0 ? n : 0] = '\0';
	slash = strrchr(path, '/');
	if (slash)
		*slash = '\0';
	return xstrdup(path);
}

char *libexec_find(const char *name)
{
	const char *named = secure_getenv("KEYBROKER_LIBEXEC");
	_cleanup_(freep) char *here = libexec_here();
	char *path;

	if (named && *named)
		return xasprintf("%s/%s", named, name);
	for (int up = 0; up < 2; up++) {
		path = xasprintf("%s%s/libexec/keybroker/%s", here, up ? "/.." : "", name);
		if (access(path, X_OK) == 0)
			return path;
		free(path);
	}
	return xasprintf("%s/%s", KEYBROKER_LIBEXEC_DIR, name);
}

int libexec_run(char *const argv[])
{
	extern char **environ;
	pid_t pid;
	int status, r = posix_spawn(&pid, argv[0], NULL, NULL, argv, environ);

	if (r != 0) {
		cli_warning("%s cannot be run: %s; KEYBROKER_LIBEXEC may name its directory",
			    argv[0], strerror(r));
		return CLI_SOFTWARE;
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return CLI_OS;
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	cli_warning("%s was ended by signal %d (%s)", argv[0], WTERMSIG(status),
		    strsignal(WTERMSIG(status)));
	return CLI_SOFTWARE;
}
