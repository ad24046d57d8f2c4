/* The table of commands, and the help that is made from it. */
#include "cli/command.h"

#include <string.h>

#include "base/macros.h"

static const struct command command_rows[] = {
	{ "exec", "-- CMD [ARG...]", "Run a program with a key of its own in its environment",
	  OPT_PROFILE | OPT_MIN_VALID | OPT_KEEP_ENV, true, -1, command_exec,
	  "Sets OPENAI_API_KEY and OPENAI_BASE_URL and becomes CMD: process id, signals and exit code\n"
	  "are CMD's own. The lease ends when CMD does. LITELLM_MASTER_KEY, LITELLM_MASTER_KEY_FILE\n"
	  "and LITELLM_SALT_KEY are taken out. An OPENAI_BASE_URL that is set already stays as it is.\n" },
	{ "get", "", "Print a key, for scripts; it is yours for a limited time",
	  OPT_PROFILE | OPT_FORMAT | OPT_TTL | OPT_MIN_VALID, false, 0, command_get,
	  "The key alone goes to stdout, all else to stderr. --format env prints OPENAI_API_KEY and\n"
	  "OPENAI_BASE_URL as lines for a shell or an environment file, --format json everything.\n" },
	{ "list", "", "Show the profiles that you may have", 0, false, 0, command_list, NULL },
	{ "whoami", "", "Show what the broker sees of you, and which rules match", 0, false, 0,
	  command_whoami, NULL },
	{ "status", "", "Show the broker, its upstream and its keys (admin)", 0, false, 0,
	  command_status, NULL },
	{ "leases", "", "Show who holds which key (admin)", 0, false, 0, command_leases, NULL },
	{ "rotate", "[PROFILE]", "Replace the key of a shared profile (admin; default: service)", 0,
	  false, 1, command_rotate,
	  "The old key works on until its holders have taken the new one. Programs started by exec\n"
	  "cannot take it and hold the old one until they end.\n" },
	{ "revoke", "", "End leases and delete their keys (admin)",
	  OPT_LEASE | OPT_ALL_OF_PROFILE | OPT_UID | OPT_KEY_HASH, false, 0, command_revoke,
	  "Exactly one of the options says what; there is no default. Other LiteLLM processes may\n"
	  "honour a deleted key for up to 60 seconds.\n" },
	{ "import", "FILE", "Adopt a key that exists, from a JSON file (admin)", OPT_PROFILE, false,
	  1, command_import,
	  "FILE (- is stdin) holds {\"token\", \"alias\", \"team_id\"?, \"base_url\"?, \"created_at\"?}.\n" },
	{ "audit read", "", "Show who got what, when (admin)", OPT_AFTER | OPT_LIMIT, false, 0,
	  command_audit_read, NULL },
	{ "reload", "", "Read the broker's configuration again (admin)", 0, false, 0,
	  command_reload, NULL },
	{ "help", "[COMMAND]", "Show help", 0, false, 2, command_help, NULL },
	{ "version", "", "Show the version", 0, false, 0, command_version, NULL },
};

const struct command *command_find(int argc, char *const argv[], int *ret_words)
{
	for (size_t i = 0; argc > 0 && i < ARRAY_SIZE(command_rows); i++) {
		const char *name = command_rows[i].name, *space = strchr(name, ' ');
		size_t n = space ? (size_t)(space - name) : strlen(name);

		if (strlen(argv[0]) != n || memcmp(argv[0], name, n) != 0)
			continue;
		if (space && (argc < 2 || strcmp(argv[1], space + 1) != 0))
			continue;
		*ret_words = space ? 2 : 1;
		return &command_rows[i];
	}
	return NULL;
}

int command_unknown(const struct cli *c, const char *word)
{
	size_t n = strlen(word);

	for (size_t i = 0; n > 0 && i < ARRAY_SIZE(command_rows); i++)
		if (strncmp(command_rows[i].name, word, n) == 0 && command_rows[i].name[n] == ' ')
			return cli_usage(c, "\"%s\" is half a command: there is \"%s\"", word,
					 command_rows[i].name);
	return cli_usage(c, "there is no command \"%s\"", word);
}

void command_print_overview(FILE *f)
{
	(void)fputs("Usage: keybroker [OPTION...] COMMAND [OPTION...] [ARG...]\n\n"
		    "Hands out short-lived LiteLLM keys from the broker on this host.\n\n",
		    f); /* errors show when the stream is flushed */
	for (size_t i = 0; i < ARRAY_SIZE(command_rows); i++)
		(void)fprintf(f, "  %-11s %-16s %s\n", command_rows[i].name, command_rows[i].args,
			      command_rows[i].help);
	(void)fputs("\nOptions of all commands:\n", f);
	options_help(f, OPT_GLOBAL);
	(void)fputs("\n`keybroker help COMMAND` shows the options of one.\n", f);
}

void command_print_help(FILE *f, const struct command *command)
{
	(void)fprintf(f, "Usage: keybroker %s%s%s%s\n\n%s.\n", command->name,
		      command->options ? " [OPTION...]" : "", *command->args ? " " : "",
		      command->args, command->help);
	if (command->more)
		(void)fprintf(f, "\n%s", command->more);
	if (command->options)
		(void)fputs("\nOptions:\n", f);
	options_help(f, command->options);
	(void)fputs("\nOptions of all commands:\n", f);
	options_help(f, OPT_GLOBAL);
}

int command_help(struct cli *c)
{
	int words;
	const struct command *command = command_find(c->n_operands, c->operands, &words);

	if (c->n_operands == 0)
		command_print_overview(stdout);
	else if (command)
		command_print_help(stdout, command);
	else
		return command_unknown(c, c->operands[0]);
	return CLI_OK;
}

int command_version(struct cli *c)
{
	printf(c->options.json ? "{\"version\":\"%s\"}\n" : "keybroker %s\n", KEYBROKER_VERSION);
	return CLI_OK;
}
