/*
 * One line per event on stderr, written with a single write so that lines of several processes
 * don't mix. Control characters are replaced: a peer or upstream must not forge lines.
 */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOG_LINE_MAX 2048
#define LOG_PROGRAM_MAX 32 /* argv[0] is whatever who started us made it */

static enum log_level log_level_now = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
	log_level_now = level;
}

static const char *log_level_word(enum log_level level)
{
	switch (level) {
	case LOG_LEVEL_ERROR:
		return "error: ";
	case LOG_LEVEL_WARNING:
		return "warning: ";
	case LOG_LEVEL_NOTICE:
	case LOG_LEVEL_INFO:
		return "";
	case LOG_LEVEL_DEBUG:
		return "debug: ";
	}
	return "";
}

/* The journal adds time and program itself, and takes the level from "<N>". */
static int log_prefix(char *line, size_t size, enum log_level level)
{
	struct timespec now = { 0 };
	struct tm utc;
	char stamp[32] = "";

	if (getenv("JOURNAL_STREAM"))
		return snprintf(line, size, "<%d>", (int)level);
	(void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail for this clock */
	if (gmtime_r(&now.tv_sec, &utc))
		(void)strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &utc);
	return snprintf(line, size, "%s.%03ldZ %.*s: %s", stamp, now.tv_nsec / 1000000,
			LOG_PROGRAM_MAX, program_invocation_short_name, log_level_word(level));
}

void log_write(enum log_level level, const char *fmt, ...)
{
	char line[LOG_LINE_MAX];
	size_t n;
	va_list ap;
	int r;

	if (level > log_level_now && level != LOG_LEVEL_NOTICE)
		return;
	n = (size_t)log_prefix(line, sizeof(line), level);
	va_start(ap, fmt);
	r = vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	va_end(ap);
	if (r < 0)
		return;
	n = strlen(line);
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = ' ';
	line[n++] = '\n';
	(void)!write(STDERR_FILENO, line,
		     n); /* a log that cannot be written has no one to complain to */
}
