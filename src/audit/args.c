/* The command line of the audit program. */
#include "audit/args.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audit/exit.h"
#include "base/macros.h"

static const struct {
	const char *name, *help;
} args_commands[] = {
	[ARGS_VERIFY] = { "verify", "prove that the audit is as it was written" },
	[ARGS_EXPORT] = { "export", "print its rows as JSON lines" },
	[ARGS_KEY] = { "key", "print the audit key, which verifies exports elsewhere" },
};

enum args_kind { ARGS_TEXT, ARGS_FLAG, ARGS_NUMBER, ARGS_HEAD, ARGS_HELP };

#define ARGS_ALL (1U << ARGS_VERIFY | 1U << ARGS_EXPORT | 1U << ARGS_KEY)

static const struct {
	const char *name, *argument;
	enum args_kind kind;
	unsigned commands; /* that take it */
	size_t at;
	const char *help;
} args_rows[] = {
	{ "state", "DIR", ARGS_TEXT, ARGS_ALL, offsetof(struct args, state),
	  "the directory of state.db" },
	{ "system", NULL, ARGS_FLAG, ARGS_ALL, offsetof(struct args, system_mode),
	  "the system's places (/etc, /var/lib), not the user's" },
	{ "seal-key", "FILE", ARGS_TEXT, ARGS_ALL, offsetof(struct args, seal_key),
	  "the seal key of that state" },
	{ "head", "SEQ:HASH", ARGS_HEAD, 1U << ARGS_VERIFY, 0,
	  "a row that must still be there; may be given several times" },
	{ "export", "FILE", ARGS_TEXT, 1U << ARGS_VERIFY, offsetof(struct args, export_file),
	  "verify this export (- is stdin) and no state; needs --key" },
	{ "key", "FILE", ARGS_TEXT, 1U << ARGS_VERIFY, offsetof(struct args, key_file),
	  "the audit key, as `key` wrote it" },
	{ "json", NULL, ARGS_FLAG, 1U << ARGS_VERIFY, offsetof(struct args, json),
	  "print the result as JSON" },
	{ "verdict-fd", "N", ARGS_NUMBER, 1U << ARGS_VERIFY, offsetof(struct args, verdict_fd),
	  "write the last row, the first bad one (or 0) and the fault there, too" },
	{ "from", "N", ARGS_NUMBER, 1U << ARGS_EXPORT, offsetof(struct args, from),
	  "the first row (default: the oldest)" },
	{ "to", "N", ARGS_NUMBER, 1U << ARGS_EXPORT, offsetof(struct args, to),
	  "the last row (default: the newest)" },
	{ "out", "FILE", ARGS_TEXT, 1U << ARGS_KEY, offsetof(struct args, out),
	  "a new file, mode 0600 (default: stdout, if that is no terminal)" },
	{ "quiet", NULL, ARGS_FLAG, ARGS_ALL, offsetof(struct args, quiet),
	  "no notices on stderr, only errors" },
	{ "help", NULL, ARGS_HELP, ARGS_ALL, 0, "print this" },
};

void args_say(const char *fmt, ...)
{
	va_list ap;

	(void)fputs("keybroker audit: ", stderr); /* nowhere else to say so */
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fputc('\n', stderr);
}

static void args_print_help(void)
{
	printf("Usage: audit COMMAND [OPTION]...\n"
	       "Reads the audit beside the broker; `keybroker audit` runs it.\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(args_commands); i++)
		printf("  %-18s %s\n", args_commands[i].name, args_commands[i].help);
	printf("\n");
	for (size_t i = 0; i < ARRAY_SIZE(args_rows); i++) {
		char left[64];

		(void)snprintf(left, sizeof(left), "--%s%s%s", args_rows[i].name,
			       args_rows[i].argument ? " " : "",
			       args_rows[i].argument ? args_rows[i].argument : "");
		printf("  %-18s %s\n", left, args_rows[i].help);
	}
	printf("\nverify exits with 0, with %d if the audit is not as it was written, with %d if it "
	       "is whole\nbut the row of a head that was given has been pruned, so that nothing is "
	       "proved by it;\nelse with a code of sysexits.\n",
	       EXIT_BROKEN, EXIT_UNPROVEN);
}

static int args_usage(const char *word, const char *why)
{
	args_say("%s%s", word, why);
	return ARGS_E_USAGE;
}

static int args_command(const char *word, struct args *a)
{
	for (size_t i = 0; i < ARRAY_SIZE(args_commands); i++) {
		if (strcmp(args_commands[i].name, word) != 0)
			continue;
		a->command = (enum args_command)i;
		return 0;
	}
	return args_usage(word, ": there are verify, export and key");
}

static int args_number(const char *text, int64_t *ret)
{
	char *end;

	errno = 0;
	*ret = strtoll(text, &end, 10);
	if (errno || *end || *text < '1' || *text > '9')
		return args_usage(text, " is not a sequence number, 1 or more");
	return 0;
}

static int args_head(struct args *a, const char *text)
{
	if (a->n_heads == ARGS_HEADS_MAX)
		return args_usage("--head", " was given too often");
	if (chain_head_parse(text, &a->heads[a->n_heads]) < 0)
		return args_usage(text, " is not SEQUENCE:HASH, as a head is shown");
	a->n_heads++;
	return 0;
}

static int args_apply(struct args *a, size_t row)
{
	void *at = (char *)a + args_rows[row].at;

	if (!(args_rows[row].commands & 1U << a->command))
		return args_usage(args_commands[a->command].name, " does not take that option");
	switch (args_rows[row].kind) {
	case ARGS_TEXT:
		*(const char **)at = optarg;
		return *optarg ? 0 : args_usage(args_rows[row].name, ": the argument is empty");
	case ARGS_FLAG:
		*(bool *)at = true;
		return 0;
	case ARGS_NUMBER:
		return args_number(optarg, at);
	case ARGS_HEAD:
		return args_head(a, optarg);
	case ARGS_HELP:
		args_print_help();
		return ARGS_E_DONE;
	}
	return 0;
}

static int args_check(const struct args *a)
{
	if (!a->export_file != !a->key_file)
		return args_usage("", "--export and --key belong together");
	if (a->export_file && (a->state || a->seal_key || a->system_mode))
		return args_usage("", "an export is verified without any state: leave --state, "
				      "--seal-key and --system out");
	if (a->to && a->from > a->to)
		return args_usage("", "--from is behind --to");
	return 0;
}

int args_parse(int argc, char **argv, struct args *ret)
{
	struct option rows[ARRAY_SIZE(args_rows) + 1] = { 0 };
	struct args a = { 0 };
	int row, r;

	for (size_t i = 0; i < ARRAY_SIZE(args_rows); i++)
		rows[i] = (struct option){ args_rows[i].name,
					   args_rows[i].argument ? required_argument : no_argument,
					   NULL, (int)i };
	if (argc < 2)
		return args_usage("", "there is no command: verify, export or key");
	if (strcmp(argv[1], "--help") == 0) {
		args_print_help();
		return ARGS_E_DONE;
	}
	r = args_command(argv[1], &a);
	optind = 0; /* a start from anew: tests parse more than once */
	opterr = 0; /* our own words */
	while (r == 0 && (row = getopt_long(argc - 1, argv + 1, ":", rows, NULL)) != -1) {
		if (row == ':' || row == '?')
			return args_usage(argv[optind], row == ':' ? " needs an argument"
								   : ": there is no such option");
		r = args_apply(&a, (size_t)row);
	}
	if (r == 0 && optind < argc - 1)
		return args_usage(argv[optind + 1], " is not expected");
	r = r ? r : args_check(&a);
	if (r == 0)
		*ret = a;
	return r;
}
