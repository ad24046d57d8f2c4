/*
 * Preloaded into the daemon by run.py: at SIGUSR2 it writes the bytes that malloc has handed out to
 * the file of KEYBROKER_MALLINFO. The daemon is idle then, so the handler interrupts no allocation.
 */
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void mallinfo_write(int signal_number)
{
	size_t used = mallinfo2().uordblks;
	int fd =
		open(getenv("KEYBROKER_MALLINFO"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	(void)signal_number;
	if (fd >= 0 && write(fd, &used, sizeof(used)) != (ssize_t)sizeof(used))
		abort();
	(void)close(fd);
}

__attribute__((constructor)) static void mallinfo_start(void)
{
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_handler = mallinfo_write;
	(void)sigaction(SIGUSR2, &action, NULL);
}
