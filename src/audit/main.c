/*
 * The audit, read beside the broker: verified, exported, or its key handed out. A program of its
 * own, so that no long reading blocks the broker, and SQLite stays out of the command line tool.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sysexits.h>

#include "audit/args.h"
#include "audit/export.h"
#include "audit/key.h"
#include "audit/offline.h"
#include "audit/verify.h"
#include "base/crypt.h"
#include "base/json.h"
#include "base/log.h"

/* It holds the seal key for a moment: no core, no look into it by others of the same uid. */
static void main_harden(void)
{
	const struct rlimit none = { 0 };

	if (prctl(PR_SET_DUMPABLE, 0) < 0 || setrlimit(RLIMIT_CORE, &none) < 0)
		log_warning("core dumps cannot be switched off: %s", strerrordesc_np(errno));
	(void)umask(077);
	(void)signal(SIGPIPE, SIG_IGN); /* an error of the call, not our death */
}

static int main_run(struct args *a)
{
	switch (a->command) {
	case ARGS_VERIFY:
		return a->export_file ? offline_verify(a) : verify_state(a);
	case ARGS_EXPORT:
		return export_state(a);
	case ARGS_KEY:
		return key_write(a);
	}
	return EX_SOFTWARE;
}

int main(int argc, char **argv)
{
	struct args a;
	int r;

	main_harden();
	json_init();
	r = args_parse(argc, argv, &a);
	if (r != 0)
		return r == ARGS_E_DONE ? EX_OK : EX_USAGE;
	if (crypt_init() < 0)
		return EX_OSERR; /* logged */
	r = main_run(&a);
	if (fflush(stdout) == 0 && !ferror(stdout))
		return r;
	args_say("stdout cannot be written: %s", strerrordesc_np(errno));
	return r ? r : EX_IOERR;
}
