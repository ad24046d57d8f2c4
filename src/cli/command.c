/* The table of commands, and the help that is made from it. */
#include "cli/command.h"

#include <string.h>

#include "base/macros.h"

static const struct command command_rows[] = {
	{ "exec", "-- CMD [ARG...]", "Run a program with a key of its own in its environment",
	  OPT_PROFILE | OPT_MIN_VALID | OPT_KEEP_ENV | OPT_SUPERVISE, true, -1, command_exec,
	  "Sets OPENAI_API_KEY and OPENAI_BASE_URL and becomes CMD: process id, signals and exit code\n"
	  "are CMD's own. The lease ends when CMD does. LITELLM_MASTER_KEY, LITELLM_MASTER_KEY_FILE\n"
	  "and LITELLM_SALT_KEY are taken out. An OPENAI_BASE_URL that is set already stays as it is,\n"
	  "with a warning if it names another server than the broker's. It is refused (exit 78) if it\n"
	  "is no URL, names api.openai.com, where a LiteLLM key cannot work, or is plain http to\n"
	  "another host than this one or the broker's (KEYBROKER_INSECURE_HTTP=1 allows that).\n\n"
	  "With --restart-on-rotate or --key-file, exec stays as CMD's parent, takes each new key,\n"
	  "and holds no old one back. It hands on signals, ends with CMD and with its exit code; if it\n"
	  "is killed, CMD gets SIGTERM. --restart-on-rotate ends CMD by SIGTERM (after 10 s by SIGKILL)\n"
	  "and starts it again, unless exec was sent TERM, INT or QUIT before. --key-file replaces PATH\n"
	  "by renaming, names it in OPENAI_API_KEY_FILE, and removes it at the end, unless another exec\n"
	  "has put its own there; the old key works for the grace (5 min), so CMD may read the file when\n"
	  "it likes, or after a --watch-signal.\n" },
	{ "get", "", "Print a key, for scripts; it is yours for a limited time",
	  OPT_PROFILE | OPT_FORMAT | OPT_TTL | OPT_FOR | OPT_MIN_VALID, false, 0, command_get,
	  "The key alone goes to stdout, all else to stderr. --format env prints OPENAI_API_KEY and\n"
	  "OPENAI_BASE_URL as lines for a shell or an environment file, --format json everything, and\n"
	  "--format k8s-exec an ExecCredential for a kubeconfig.\n"
	  "With --for-parent or --for-pid the key is that process's, and goes when that ends.\n" },
	{ "list", "", "Show the profiles that you may have", 0, false, 0, command_list, NULL },
	{ "whoami", "", "Show what the broker sees of you, and which rules match", 0, false, 0,
	  command_whoami, NULL },
	{ "explain", "[PROFILE]", "Show which rule decides about a profile (default: service)",
	  OPT_AS, false, 1, command_explain,
	  "Shows what the broker sees of you, which rule decides, and what each other one misses; exits 77\n"
	  "if none allows the profile. With --as, on the admin socket, it is about a peer that need not\n"
	  "exist: uid= or user= (with the groups of the user database), gid=, group=, unit=, user_unit=,\n"
	  "exe=, listen= (the section whose socket it comes by), foreign_pid=yes. For example:\n"
	  "  keybroker explain batch --as user=www-data,unit=web.service\n" },
	{ "watch", "", "Show what becomes of your leases, as it happens", 0, false, 0,
	  command_watch,
	  "One line for each: rotated (there is a newer key for a lease that can take it), revoked,\n"
	  "expiring (a lease with a time is about to end), leader_changed. Those of all processes of\n"
	  "your uid; never a key. Goes on until Ctrl-C (130), also when the broker restarts.\n" },
	{ "status", "", "Show the broker, its upstream and its keys (admin)", OPT_SPEND, false, 0,
	  command_status,
	  "STATE is ready; waiting: it has no key and tries to get one, see the error below; static;\n"
	  "on demand: a key for each lease, and how many keys its pool has ready; retiring: an older\n"
	  "key that works until its holders have gone. A fixed lease is one whose holder cannot take\n"
	  "another key, as the environment of a program started by exec. OUTAGE: when the keys that\n"
	  "clients live on expire, the first to the last, if LiteLLM cannot be reached until then;\n"
	  "new: what new callers get meanwhile.\n"
	  "--spend asks LiteLLM: for each team, each profile (of keys that still exist), and the 50\n"
	  "keys that spent most. LiteLLM counts a call some seconds after it was made. Exits 75 if\n"
	  "LiteLLM cannot be reached.\n" },
	{ "leases", "", "Show who holds which key (admin)", 0, false, 0, command_leases,
	  "BOUND TO says what ends a lease: its process, its connection, its time (ttl). fixed: its holder cannot\n"
	  "take another key, so that a rotation leaves it the old one.\n" },
	{ "rotate", "[PROFILE]", "Replace the key of a shared profile (admin; default: service)",
	  OPT_NOW, false, 1, command_rotate,
	  "The old key works on until its holders have taken the new one. Programs started by exec\n"
	  "cannot take it and hold the old one until they end (`keybroker status` shows which).\n"
	  "--now waits for nobody: their calls fail from then on, in other LiteLLM processes up to\n"
	  "60 s later.\n" },
	{ "revoke", "", "End leases and delete their keys (admin)",
	  OPT_LEASE | OPT_ALL_OF_PROFILE | OPT_UID | OPT_KEY_HASH, false, 0, command_revoke,
	  "Exactly one of the options says what; there is no default. The key of a shared profile\n"
	  "goes with --profile or --key-hash only: --uid and --lease leave it to its other holders.\n"
	  "Who may have the profile can get a new key at once, and `exec` with --restart-on-rotate or\n"
	  "--key-file does: to keep somebody out, take the rule away first (`keybroker reload`).\n"
	  "Other LiteLLM processes may honour a deleted key for up to 60 seconds.\n"
	  "Waits until LiteLLM has confirmed that the keys are gone. Exits 65 if nothing matches, 75 if\n"
	  "LiteLLM cannot be reached or takes more than some seconds; the broker keeps trying.\n" },
	{ "import", "FILE", "Adopt a key that exists, from a JSON file (admin)", OPT_PROFILE, false,
	  1, command_import,
	  "FILE (- is stdin) holds {\"token\", \"alias\", \"team_id\"?, \"base_url\"?, \"created_at\"?}.\n" },
	{ "audit read", "", "Show who got what, when (admin)",
	  OPT_FILTER | OPT_UNTIL | OPT_AFTER | OPT_LIMIT, false, 0, command_audit_read,
	  "Without a filter 50 rows, the latest unless --after says otherwise; with filters all that fit\n"
	  "every one of them.\n"
	  "Who had a key that has leaked, without its standing in a command line:\n"
	  "  read -rs KEY; keybroker audit read --key-hash \"$(printf %s \"$KEY\" | sha256sum | cut -c 1-64)\"\n" },
	{ "audit follow", "", "Show new rows as they are written (admin)", OPT_FILTER | OPT_AFTER,
	  false, 0, command_audit_follow,
	  "Goes on until Ctrl-C (130), also when the broker restarts; if none comes back within a few\n"
	  "seconds, that is the end (69). --after or --since show rows that are there already first;\n"
	  "--after 0 all. With --json each row is a line.\n" },
	{ "audit verify", "", "Prove that the audit is as it was written (admin)",
	  OPT_PLACE | OPT_VERIFY, false, 0, command_audit_verify,
	  "Exits with 1 and names the first bad row if rows were changed, removed, inserted or moved; also\n"
	  "if rows are missing up to a --head. Exits with 2 if the row of a --head was pruned, so that it\n"
	  "proves nothing. Reads the state itself, so it works without a broker.\n"
	  "With --export and --key it needs neither a broker nor a state.\n" },
	{ "audit export", "", "Print the audit as JSON lines (admin)", OPT_EXPORT, false, 0,
	  command_audit_export,
	  "One line for each row with every column, between one that begins and one that ends the export.\n"
	  "The broker keeps what was exported: `audit prune` takes nothing else.\n" },
	{ "audit prune", "", "Remove the oldest rows of the audit (admin)", OPT_PRUNE, false, 0,
	  command_audit_prune,
	  "Leaves a signed checkpoint, so that the rest still verifies. The database does not get smaller:\n"
	  "the room is used for new rows.\n" },
	{ "audit key", "", "Hand out the key that verifies exports (admin)", OPT_PLACE | OPT_OUT,
	  false, 0, command_audit_key,
	  "Who has this key can verify the audit and its exports, and could forge them; it opens nothing else.\n" },
	{ "sweep", "", "Look for keys at LiteLLM that the broker does not know (admin)", 0, false,
	  0, command_sweep,
	  "The broker does so itself every ten minutes. A key of its making that it has no record of is\n"
	  "marked when it is first seen, and deleted when the next sweep still finds it. Exits 75 if\n"
	  "LiteLLM cannot be asked.\n" },
	{ "reload", "", "Read the broker's configuration again (admin)", 0, false, 0,
	  command_reload,
	  "Also the master key, from its systemd credential or file; one from the environment stays until a\n"
	  "restart. Clients and their keys notice nothing. Exits 78 and changes nothing if there is an error.\n" },
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

/* The commands whose first word is this one; false: there are none. `f` NULL: only looks. */
static bool command_print_group(FILE *f, const char *word)
{
	size_t n = strlen(word);
	bool any = false;

	for (size_t i = 0; n > 0 && i < ARRAY_SIZE(command_rows); i++) {
		const struct command *row = &command_rows[i];

		if (strncmp(row->name, word, n) != 0 || row->name[n] != ' ')
			continue;
		if (f)
			(void)fprintf(f, "%skeybroker %-14s %s\n",
				      any ? "       " : "Usage: ", row->name, row->help);
		any = true;
	}
	return any;
}

int command_unknown(const struct cli *c, int argc, char *const argv[])
{
	bool more = argc > 1 && argv[1][0] != '-';
	bool help = argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);

	/* `audit --help`, `help audit` */
	if (!more && (help || c->command) && command_print_group(stdout, argv[0]))
		return CLI_OK;
	if (c->options.json || !command_print_group(NULL, argv[0]))
		return cli_usage(c, "there is no command \"%s%s%s\"", argv[0], more ? " " : "",
				 more ? argv[1] : "");
	(void)cli_fail(c, CLI_USAGE, "\"%s%s%s\" is no command", argv[0], more ? " " : "",
		       more ? argv[1] : "");
	(void)command_print_group(stderr, argv[0]);
	return CLI_USAGE;
}

void command_print_overview(FILE *f)
{
	(void)fputs("Usage: keybroker [OPTION...] COMMAND [OPTION...] [ARG...]\n\n"
		    "Hands out short-lived LiteLLM keys from the broker on this host.\n\n",
		    f); /* errors show when the stream is flushed */
	for (size_t i = 0; i < ARRAY_SIZE(command_rows); i++)
		(void)fprintf(f, "  %-12s %-16s %s\n", command_rows[i].name, command_rows[i].args,
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
		return command_unknown(c, c->n_operands, c->operands);
	return CLI_OK;
}

int command_version(struct cli *c)
{
	printf(c->options.json ? "{\"version\":\"%s\"}\n" : "keybroker %s\n", KEYBROKER_VERSION);
	return CLI_OK;
}
