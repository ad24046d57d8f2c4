/* One run: parse, find the command, run it; errors and exit codes in one place. */
#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/macros.h"
#include "cli/command.h"
#include "cli/patience.h"
#include "cli/text.h"
#include "clients/c/fault.h"

static const enum cli_exit cli_exit_codes[] = {
	[KEYBROKER_OK] = CLI_OK,
	[KEYBROKER_INVALID_REQUEST] = CLI_USAGE,
	[KEYBROKER_DENIED] = CLI_DENIED,
	[KEYBROKER_UNKNOWN_PROFILE] = CLI_CONFIG,
	[KEYBROKER_UNKNOWN_LEASE] = CLI_USAGE,
	[KEYBROKER_LIMIT_EXCEEDED] = CLI_TRY_LATER,
	[KEYBROKER_UPSTREAM_UNAVAILABLE] = CLI_TRY_LATER,
	[KEYBROKER_UPSTREAM_REFUSED] = CLI_CONFIG,
	[KEYBROKER_AUDIT_UNAVAILABLE] = CLI_TRY_LATER,
	[KEYBROKER_NOT_LEADER] = CLI_TRY_LATER,
	[KEYBROKER_INTERNAL] = CLI_SOFTWARE,
	[KEYBROKER_UNREACHABLE] = CLI_UNAVAILABLE,
	[KEYBROKER_UNTRUSTED] = CLI_DENIED,
	[KEYBROKER_TIMEOUT] = CLI_UNAVAILABLE,
	[KEYBROKER_LOST] = CLI_UNAVAILABLE,
	[KEYBROKER_GARBAGE] = CLI_SOFTWARE,
	[KEYBROKER_NO_MEMORY] = CLI_OS,
};

int cli_exit_code(enum keybroker_code code)
{
	return (size_t)code < ARRAY_SIZE(cli_exit_codes) ? cli_exit_codes[code] : CLI_SOFTWARE;
}

static void cli_vsay(const char *before, const char *fmt, va_list args)
	__attribute__((format(printf, 2, 0)));
static void cli_vsay(const char *before, const char *fmt, va_list args)
{
	_cleanup_(freep) char *text = NULL;

	if (vasprintf(&text, fmt, args) < 0)
		abort();
	_cleanup_(freep) char *clean = text_clean(text);
	(void)fprintf(stderr, "keybroker: %s%s\n", before, clean); /* nowhere else to say so */
}

/* What the command line itself finds has no code of the protocol. */
static const char *cli_fail_name(enum cli_exit code)
{
	static const struct {
		enum cli_exit code;
		const char *name;
	} rows[] = {
		{ CLI_USAGE, "usage" },		  { CLI_DATA, "data" },
		{ CLI_NO_INPUT, "no_input" },	  { CLI_IO, "output" },
		{ CLI_TRY_LATER, "pending" },	  { CLI_CONFIG, "configuration" },
		{ CLI_CANNOT_RUN, "cannot_run" }, { CLI_NOT_FOUND, "not_found" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].code == code)
			return rows[i].name;
	return "internal";
}

static void cli_vfail(const struct cli *c, enum cli_exit code, const char *fmt, va_list args)
	__attribute__((format(printf, 3, 0)));
static void cli_vfail(const struct cli *c, enum cli_exit code, const char *fmt, va_list args)
{
	_cleanup_(freep) char *text = NULL;

	if (!c->options.json) {
		cli_vsay("", fmt, args);
		return;
	}
	if (vasprintf(&text, fmt, args) < 0)
		abort();
	(void)fprintf(stderr, "{\"code\":\"%s\",\"message\":", cli_fail_name(code));
	text_print_json(stderr, text);
	(void)fputs("}\n", stderr);
}

int cli_fail(const struct cli *c, enum cli_exit code, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	cli_vfail(c, code, fmt, args);
	va_end(args);
	return code;
}

void cli_warning(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	cli_vsay("warning: ", fmt, args);
	va_end(args);
}

void cli_notice(const struct cli *c, const char *fmt, ...)
{
	va_list args;

	if (c->options.quiet)
		return;
	va_start(args, fmt);
	cli_vsay("", fmt, args);
	va_end(args);
}

static int cli_point_to_help(const struct cli *c)
{
	(void)fprintf(stderr, "Try `keybroker help%s%s`.\n", c->command ? " " : "",
		      c->command ? c->command->name : "");
	return CLI_USAGE;
}

int cli_usage(const struct cli *c, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	cli_vfail(c, CLI_USAGE, fmt, args);
	va_end(args);
	return c->options.json ? CLI_USAGE : cli_point_to_help(c);
}

int64_t cli_now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_REALTIME, &t); /* cannot fail for this clock */
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void cli_report_json(const struct keybroker_error *e)
{
	(void)fprintf(stderr, "{\"code\":\"%s\",\"message\":", keybroker_code_name(e->code));
	text_print_json(stderr, e->message);
	if (e->retry_after_ms >= 0)
		(void)fprintf(stderr, ",\"retry_after_ms\":%lld", (long long)e->retry_after_ms);
	for (size_t i = 0; i < e->n_tried; i++) {
		(void)fputs(i ? ",{\"path\":" : ",\"tried\":[{\"path\":", stderr);
		text_print_json(stderr, e->tried[i].path);
		(void)fputs(",\"reason\":", stderr);
		text_print_json(stderr, fault_why_not(e->tried[i].error));
		(void)fputs(i + 1 == e->n_tried ? "}]" : "}", stderr);
	}
	(void)fputs("}\n", stderr);
}

/* A socket that is there and closed to us is a matter of permission, not of a broker that is away.
 */
static int cli_report_code(const struct keybroker_error *e)
{
	return fault_is_access(e) ? CLI_DENIED : cli_exit_code(e->code);
}

/* The sockets that were tried get a line each. */
static int cli_first_part(const struct keybroker_error *e)
{
	return (int)(e->n_tried ? strcspn(e->message, ":") + 1 : strlen(e->message));
}

int cli_report(const struct cli *c, const struct keybroker_error *e)
{
	if (c->options.json) {
		cli_report_json(e);
		return cli_report_code(e);
	}
	if (e->code <= KEYBROKER_INTERNAL)
		(void)cli_fail(c, CLI_SOFTWARE, "%s: %s", keybroker_code_name(e->code), e->message);
	else
		(void)cli_fail(c, CLI_SOFTWARE, "%.*s", cli_first_part(e), e->message);
	for (size_t i = 0; i < e->n_tried; i++) {
		_cleanup_(freep) char *path = text_clean(e->tried[i].path);

		(void)fprintf(stderr, "  %s: %s\n", path, fault_why_not(e->tried[i].error));
	}
	if (e->retry_after_ms >= 0)
		(void)fprintf(stderr, "Try again in %lld s.\n",
			      (long long)(e->retry_after_ms + 999) / 1000);
	if (e->code > KEYBROKER_UNKNOWN_PROFILE) /* before that the broker's own words say it */
		(void)fprintf(stderr, "%s\n", e->advice);
	return cli_report_code(e);
}

int cli_connect(const struct cli *c, bool admin, struct keybroker **ret)
{
	const struct keybroker_options options = {
		.socket = c->options.socket,
		.timeout_ms = c->options.timeout_ms > 0 ? c->options.timeout_ms : 0,
	};
	struct keybroker_error e;

	enum keybroker_code code = call_open(ret, &options, admin, c->options.admin_socket, &e);

	return code == KEYBROKER_OK ? CLI_OK : cli_report(c, &e);
}

int cli_call(const struct cli *c, bool admin, const struct call *call, struct message **ret)
{
	_cleanup_(keybroker_closep) struct keybroker *k = NULL;
	struct keybroker_error e;
	int r = cli_connect(c, admin, &k);

	if (r != CLI_OK)
		return r;
	if (call->upstream)
		patience_begin(c);
	enum keybroker_code code = keybroker_call(k, call, ret, &e);
	patience_end();
	return code == KEYBROKER_OK ? CLI_OK : cli_report(c, &e);
}

/* `keybroker --help`, `--version`, and no command at all. */
static int cli_run_bare(struct cli *c)
{
	if (c->options.version)
		return command_version(c);
	if (c->options.help)
		return command_help(c);
	command_print_overview(stderr);
	return CLI_USAGE;
}

/* Parses the options behind the command's name, whose words are argv[0..words). */
static int cli_parse_command(struct cli *c, int argc, char **argv, int words)
{
	_cleanup_(freep) char *name = xasprintf("keybroker %s", c->command->name);
	char *word = argv[words - 1];

	/* so that what getopt says begins with the command */
	argv[words - 1] = name;
	int at = options_parse(&c->options, c->command->options, !c->command->stops,
			       argc - words + 1, argv + words - 1);
	argv[words - 1] = word;
	if (at < 0)
		return CLI_USAGE;
	c->operands = argv + words - 1 + at;
	c->n_operands = argc - (words - 1 + at);
	return CLI_OK;
}

static int cli_run(struct cli *c, int argc, char **argv)
{
	static char name[] = "keybroker";
	int words = 0;

	argv[0] = name;
	int at = options_parse(&c->options, 0, false, argc, argv);
	if (at < 0)
		return cli_point_to_help(c);
	if (at == argc || c->options.version || c->options.help)
		return cli_run_bare(c);
	c->command = command_find(argc - at, argv + at, &words);
	if (!c->command)
		return command_unknown(c, argc - at, argv + at);
	if (cli_parse_command(c, argc - at, argv + at, words) != CLI_OK)
		return cli_point_to_help(c);
	if (c->options.help) {
		command_print_help(stdout, c->command);
		return CLI_OK;
	}
	if (c->options.version)
		return command_version(c);
	if (c->command->max_operands >= 0 && c->n_operands > c->command->max_operands)
		return cli_usage(c, "unexpected argument \"%s\"",
				 c->operands[c->command->max_operands]);
	return c->command->run(c);
}

int cli_main(int argc, char **argv)
{
	struct cli c = { .command = NULL };

	options_init(&c.options);
	if (argc < 1)
		return CLI_USAGE;
	int r = cli_run(&c, argc, argv);
	/* a key that did not get where it should go must not look like one that did */
	if (fflush(stdout) != 0 || ferror(stdout)) {
		return cli_fail(&c, CLI_IO, "stdout cannot be written: %s", strerror(errno));
	}
	return r;
}
