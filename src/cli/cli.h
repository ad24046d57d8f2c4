/* One run of `keybroker`: what was asked, and what all commands share. Handlers yield exit codes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "cli/options.h"
#include "clients/c/call.h"

/* The exit codes, those of sysexits.h. */
enum cli_exit {
	CLI_OK = 0,
	CLI_USAGE = 64,
	CLI_DATA = 65,
	CLI_NO_INPUT = 66,
	CLI_UNAVAILABLE = 69,
	CLI_SOFTWARE = 70,
	CLI_OS = 71,
	CLI_IO = 74,
	CLI_TRY_LATER = 75,
	CLI_DENIED = 77,
	CLI_CONFIG = 78,
	CLI_CANNOT_RUN = 126,
	CLI_NOT_FOUND = 127,
};

struct command;

struct cli {
	struct options options;
	const struct command *command;
	int n_operands;
	char **operands; /* argv's; ends with NULL */
};

struct command {
	const char *name; /* one word or two */
	const char *args; /* its operands, for the help */
	const char *help; /* one line */
	unsigned options;
	bool stops; /* options end at the first operand: the rest is another program's */
	int max_operands;
	int (*run)(struct cli *c);
	const char *more; /* paragraphs for `help COMMAND`; may be NULL */
};

/* Parses, runs, flushes; yields the exit code. */
int cli_main(int argc, char **argv);

/* Connects; says on stderr what is wrong. CLI_OK or the exit code. */
int cli_connect(const struct cli *c, bool admin, struct keybroker **ret) _must_check_;
/* Connects, calls once and leaves; the reply is to be freed. */
int cli_call(const struct cli *c, bool admin, const struct call *call,
	     struct message **ret) _must_check_;
/* Says on stderr what came of a call; yields the exit code for it. */
int cli_report(const struct cli *c, const struct keybroker_error *e);
int cli_exit_code(enum keybroker_code code);

/* An error that ends the command, on stderr: a line, or JSON if that was asked for. Yields `code`.
 */
int cli_fail(const struct cli *c, enum cli_exit code, const char *fmt, ...) _printf_(3, 4);
/* A line on stderr: "keybroker: …". Notices are left out with --quiet. */
void cli_warning(const char *fmt, ...) _printf_(1, 2);
void cli_notice(const struct cli *c, const char *fmt, ...) _printf_(2, 3);
/* An error in how the command was called; yields CLI_USAGE. */
int cli_usage(const struct cli *c, const char *fmt, ...) _printf_(2, 3);

/* Unix milliseconds. */
int64_t cli_now_ms(void);
