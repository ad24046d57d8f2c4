/* Sets members of struct timing by name, so that tests need not wait for what takes minutes. */
#include "io/config_timing.h"

#include "base/macros.h"

#ifdef KEYBROKER_TESTING

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "core/config_build.h"

static void config_timing_line(const char *origin, char *line, struct config *c,
			       struct config_report *report)
{
	char name[64], junk;
	long long value;
	int n;

	line[strcspn(line, "#\n")] = '\0';
	n = sscanf(line, " %63s %lld %c", name, &value, &junk);
	if (n == EOF)
		return;
	if (n != 2)
		config_report_error(report, origin, "a line must be a name and a number");
	else if (timing_set(&c->timing, name, value))
		config_report_error(report, origin, "%s cannot be %lld", name, value);
}

void config_timing_read(const char *path, struct config *c, struct config_report *report)
{
	FILE *file = path ? fopen(path, "re") : NULL;
	char line[256];

	if (path && !file)
		config_report_error(report, "--timing", "%s: %s", path, strerrordesc_np(errno));
	for (int number = 1; file && fgets(line, sizeof(line), file); number++) {
		_cleanup_(freep) char *origin = xasprintf("%s:%d", path, number);

		config_timing_line(origin, line, c, report);
	}
	if (file)
		(void)fclose(file); /* only read */
}

#else

void config_timing_read(_unused_ const char *path, _unused_ struct config *c,
			_unused_ struct config_report *report)
{
}

#endif
