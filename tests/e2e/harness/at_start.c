/*
 * Put before `keybroker exec` by LD_PRELOAD: sends it a signal at a moment that no test would meet
 * by waiting. KEYBROKER_TEST_MOMENT: "start N": just before it blocks signals for the Nth start of
 * its program; "exec N": in the process that is to become that program.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static char moment[16];
static int nth, number, starts;

__attribute__((constructor)) static void at_start_read(void)
{
	(void)sscanf(getenv("KEYBROKER_TEST_MOMENT"), "%15s %d", moment, &nth);
	number = atoi(getenv("KEYBROKER_TEST_SIGNAL"));
	(void)unsetenv("LD_PRELOAD"); /* the program is left alone */
}

int sigprocmask(int how, const sigset_t *set, sigset_t *before)
{
	int (*real)(int, const sigset_t *, sigset_t *) = dlsym(RTLD_NEXT, "sigprocmask");

	if (set && sigismember(set, SIGTERM) && ++starts == nth && *moment == 's')
		(void)raise(number);
	return real(how, set, before);
}

int execvp(const char *file, char *const argv[])
{
	int (*real)(const char *, char *const[]) = dlsym(RTLD_NEXT, "execvp");

	if (starts == nth && *moment == 'e')
		(void)raise(number);
	return real(file, argv);
}
