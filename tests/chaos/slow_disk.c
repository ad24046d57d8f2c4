/* Put before a daemon's libraries: each sync takes CHAOS_SLOW_DISK_USEC longer, as on a busy disk.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static void slow_disk_wait(void)
{
	const char *usec = getenv("CHAOS_SLOW_DISK_USEC");

	(void)usleep(usec ? (useconds_t)strtoul(usec, NULL, 10) : 0);
}

int fdatasync(int fd)
{
	int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");

	slow_disk_wait();
	return real(fd);
}

int fsync(int fd)
{
	int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");

	slow_disk_wait();
	return real(fd);
}
