/* Fail points. A name that is not in the table aborts, so that the list is always whole. */
#include "daemon/fail.h"

#ifdef KEYBROKER_TESTING

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"

static const char *const fail_names[] = {
	"lead.after_claim",    "turn.before_commit",   "turn.after_commit",   "mint.after_intent",
	"mint.before_post",    "mint.after_post",      "mint.after_info",     "rotate.after_intent",
	"rotate.after_rename", "burn.after_post",      "burn.after_block",    "burn.after_rename",
	"delete.before_post",  "delete.after_post",    "extend.after_update", "team.after_new",
	"name.after_rename",   "import.before_commit", "prune.before_commit", "prune.after_commit",
};

void fail_list(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(fail_names); i++)
		puts(fail_names[i]);
}

static void fail_check_name(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(fail_names); i++)
		if (strcmp(fail_names[i], name) == 0)
			return;
	abort();
}

void fail_point(const char *name)
{
	static unsigned reached; /* of the one that is asked for */
	const char *wanted = getenv("KEYBROKER_FAIL");
	size_t n = strlen(name);
	unsigned long nth = 1;

	fail_check_name(name);
	if (!wanted || strncmp(wanted, name, n) != 0)
		return;
	if (strncmp(wanted + n, ":kill", 5) != 0 && strncmp(wanted + n, ":stop", 5) != 0)
		return;
	if (wanted[n + 5] == ':')
		nth = strtoul(wanted + n + 6, NULL, 10);
	if (++reached == nth)
		(void)raise(wanted[n + 1] == 'k' ? SIGKILL : SIGSTOP);
}

#else
typedef int fail_nothing; /* ISO C wants a declaration in each file */
#endif
