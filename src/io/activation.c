/* By hand, like readiness: libsystemd costs more than the few lines that it would save. */
#include "io/activation.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"

#define ACTIVATION_FIRST_FD 3 /* SD_LISTEN_FDS_START */
#define ACTIVATION_MAX 64

static long activation_number(const char *name)
{
	const char *text = getenv(name);

	return text ? strtol(text, NULL, 10) : 0;
}

static bool activation_keep(int fd, const char *const paths[], size_t n, int ret[])
{
	for (size_t i = 0; i < n; i++) {
		if (ret[i] >= 0 || !handover_is(fd, paths[i]))
			continue;
		ret[i] = fd;
		return fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 && fcntl(fd, F_SETFL, O_NONBLOCK) == 0;
	}
	return false;
}

int activation_take(const char *const paths[], size_t n, int ret[])
{
	long passed =
		activation_number("LISTEN_PID") == getpid() ? activation_number("LISTEN_FDS") : 0;
	int found = 0;

	for (size_t i = 0; i < n; i++)
		ret[i] = -1;
	for (int fd = ACTIVATION_FIRST_FD;
	     fd < ACTIVATION_FIRST_FD + passed && passed <= ACTIVATION_MAX; fd++) {
		if (activation_keep(fd, paths, n, ret)) {
			found++;
			continue;
		}
		log_warning(
			"a socket that the service manager passed is none of ours: %s, %s and those "
			"of listen sections are",
			paths[0], paths[1]);
		(void)close(fd);
	}
	(void)unsetenv("LISTEN_PID");
	(void)unsetenv("LISTEN_FDS");
	(void)unsetenv("LISTEN_FDNAMES");
	return found;
}
