/* One table: getopt's rows, the help text and what each option does are made of it. */
#include "daemon/options.h"

#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define OPTIONS_NAME_MAX 64 /* bytes with the NUL; stands in each audit row */

enum options_kind { OPTIONS_ACTION, OPTIONS_FLAG, OPTIONS_TEXT, OPTIONS_HELP, OPTIONS_VERSION };

static const struct {
	const char *name, *argument;
	enum options_kind kind;
	enum options_action action; /* OPTIONS_ACTION */
	size_t at;		    /* OPTIONS_FLAG, OPTIONS_TEXT: offset in struct options */
	const char *help;
} options_rows[] = {
	{ "config", "FILE", OPTIONS_TEXT, 0, offsetof(struct options, request.config_file),
	  "the configuration, in place of the usual file" },
	{ "check", NULL, OPTIONS_ACTION, OPTIONS_CHECK, 0,
	  "print each effective value and where it comes from, and end" },
	{ "init", NULL, OPTIONS_ACTION, OPTIONS_INIT, 0,
	  "write the effective configuration as a commented file, and end" },
	{ "init-seal", NULL, OPTIONS_ACTION, OPTIONS_INIT_SEAL, 0,
	  "make the seal key if there is none, and end" },
	{ "instance", "NAME", OPTIONS_TEXT, 0, offsetof(struct options, request.instance),
	  "name of this instance (default: main)" },
	{ "reset-state", NULL, OPTIONS_FLAG, 0, offsetof(struct options, reset_state),
	  "set the state aside and start with an empty one; its keys are deleted "
	  "at LiteLLM 10 minutes later" },
	{ "system", NULL, OPTIONS_FLAG, 0, offsetof(struct options, request.system_mode),
	  "use the system's places (/etc, /run, /var/lib), not the user's" },
	{ "socket", "PATH", OPTIONS_TEXT, 0, offsetof(struct options, request.socket),
	  "the clients' socket" },
	{ "admin-socket", "PATH", OPTIONS_TEXT, 0, offsetof(struct options, request.admin_socket),
	  "the administrator's socket" },
	{ "state-dir", "DIR", OPTIONS_TEXT, 0, offsetof(struct options, request.state_dir),
	  "the directory of state.db" },
	{ "log-level", "LEVEL", OPTIONS_TEXT, 0, offsetof(struct options, request.log_level),
	  "error, warning, info or debug" },
#ifdef KEYBROKER_TESTING
	{ "timing", "FILE", OPTIONS_TEXT, 0, offsetof(struct options, request.timing_file),
	  "testing build: lines of `name value`, in milliseconds" },
	{ "list-fail-points", NULL, OPTIONS_ACTION, OPTIONS_LIST_FAIL_POINTS, 0,
	  "testing build: what KEYBROKER_FAIL may name" },
#endif
	{ "version", NULL, OPTIONS_VERSION, 0, 0, "print the version" },
	{ "help", NULL, OPTIONS_HELP, 0, 0, "print this" },
};

static void options_print_help(void)
{
	printf("Usage: keybrokerd [OPTION]…\n"
	       "Holds the LiteLLM master key and hands short-lived keys to local processes.\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(options_rows); i++) {
		const char *argument = options_rows[i].argument;
		char left[64];

		(void)snprintf(left, sizeof(left), "--%s%s%s", options_rows[i].name,
			       argument ? " " : "", argument ? argument : "");
		printf("  %-22s %s\n", left, options_rows[i].help);
	}
	printf("\nWithout a file the environment is enough:\n"
	       "  LITELLM_BASE_URL=http://127.0.0.1:4000 LITELLM_MASTER_KEY=sk-… keybrokerd\n"
	       "--init writes a file that explains each option. SIGHUP reads it again.\n");
}

static int options_usage(const char *name, const char *why)
{
	(void)fprintf(stderr, "keybrokerd: %s%s\nTry: keybrokerd --help\n", name,
		      why); /* the exit code says it too */
	return OPTIONS_E_USAGE;
}

static int options_set_action(struct options *o, enum options_action action)
{
	if (o->action != OPTIONS_RUN && o->action != action)
		return options_usage("", "--check, --init and --init-seal exclude one another");
	o->action = action;
	return 0;
}

static int options_apply(struct options *o, size_t row)
{
	char *at = (char *)o + options_rows[row].at;

	switch (options_rows[row].kind) {
	case OPTIONS_ACTION:
		return options_set_action(o, options_rows[row].action);
	case OPTIONS_FLAG:
		*(bool *)at = true;
		return 0;
	case OPTIONS_TEXT:
		if (!*optarg)
			return options_usage(options_rows[row].name, ": the argument is empty");
		*(const char **)at = optarg;
		return 0;
	case OPTIONS_HELP:
		options_print_help();
		return OPTIONS_E_DONE;
	case OPTIONS_VERSION:
		printf("keybrokerd %s\n", KEYBROKER_VERSION);
		return OPTIONS_E_DONE;
	}
	return 0;
}

/* It becomes part of socket names and audit rows. */
static bool options_is_instance(const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				"0123456789._-");

	return name[n] == '\0' && n < OPTIONS_NAME_MAX && name[0] != '.';
}

static void options_make_long(struct option rows[])
{
	for (size_t i = 0; i < ARRAY_SIZE(options_rows); i++)
		rows[i] =
			(struct option){ options_rows[i].name,
					 options_rows[i].argument ? required_argument : no_argument,
					 NULL, (int)i };
}

int options_parse(int argc, char **argv, struct options *ret)
{
	struct option rows[ARRAY_SIZE(options_rows) + 1] = { 0 };
	struct options o = { 0 };
	int row, r = 0;

	options_make_long(rows);
	optind = 0; /* a start from anew: tests parse more than once */
	opterr = 0; /* our own words */
	while (r == 0 && (row = getopt_long(argc, argv, ":", rows, NULL)) != -1) {
		const char *word = argv[optind - 1];

		if (row == ':')
			return options_usage(word, " needs an argument");
		if (row == '?')
			return options_usage(word, ": there is no such option");
		r = options_apply(&o, (size_t)row);
	}
	if (r)
		return r;
	if (optind < argc)
		return options_usage(argv[optind], ": keybrokerd takes options only");
	if (o.request.instance && !options_is_instance(o.request.instance))
		return options_usage("--instance",
				     " must be up to 63 of A-Z a-z 0-9 . _ - and not begin with .");
	o.request.draft = o.action == OPTIONS_INIT;
	*ret = o;
	return 0;
}
