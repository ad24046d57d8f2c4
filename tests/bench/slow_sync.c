/*
 * Preloaded by throughput.py: a disk whose syncs take KEYBROKER_SYNC_USEC longer, for the daemon
 * and for the control alike.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int fdatasync(int fd)
{
	static int (*real)(int fd);
	long usec = strtol(getenv("KEYBROKER_SYNC_USEC"), NULL, 10);
	const struct timespec wait = { .tv_sec = usec / 1000000, .tv_nsec = usec % 1000000 * 1000 };

	if (!real)
		real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
	(void)nanosleep(&wait, NULL);
	return real(fd);
}
