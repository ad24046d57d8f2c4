/* The options of the command line. */
#include "cli/options.h"

#include <errno.h>
#include <getopt.h>
#include <pwd.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "cli/cli.h"
#include "cli/when.h"

enum option_type {
	OPTION_FLAG,
	OPTION_TEXT,
	OPTION_TEXTS, /* may come several times */
	OPTION_NUMBER,
	OPTION_USER, /* a uid, or the name of one */
	OPTION_DURATION,
	OPTION_SECONDS,
	OPTION_TIME,
};

struct option_row {
	const char *name;
	char letter; /* 0: none */
	enum option_type type;
	unsigned which;
	size_t offset;
	const char *arg;
	const char *help;
};

#define OPTION_AT(member) offsetof(struct options, member)

static const struct option_row option_rows[] = {
	{ "profile", 'p', OPTION_TEXT, OPT_PROFILE, OPTION_AT(profile), "NAME",
	  "the profile (default: service)" },
	{ "profile", 'p', OPTION_TEXT, OPT_ALL_OF_PROFILE, OPTION_AT(profile), "NAME",
	  "all leases and keys of this profile" },
	{ "format", 'f', OPTION_TEXT, OPT_FORMAT, OPTION_AT(format), "FORMAT",
	  "key (default), env, json or k8s-exec" },
	{ "ttl", 0, OPTION_DURATION, OPT_TTL, OPTION_AT(ttl_ms), "DURATION",
	  "how long the key is wanted: 30s, 15m, 2h, 1d (the broker's default: 15m)" },
	{ "for-parent", 0, OPTION_FLAG, OPT_FOR, OPTION_AT(for_parent), NULL,
	  "until the calling process ends (a shell, as a rule) instead of for a time" },
	{ "for-pid", 0, OPTION_NUMBER, OPT_FOR, OPTION_AT(for_pid), "PID",
	  "until this process ends: an ancestor of this command, with the same uid" },
	{ "min-valid", 0, OPTION_DURATION, OPT_MIN_VALID, OPTION_AT(min_valid_ms), "DURATION",
	  "the key must live this long at least (default: 5m, or a third of its life)" },
	{ "keep-env", 0, OPTION_FLAG, OPT_KEEP_ENV, OPTION_AT(keep_env), NULL,
	  "if OPENAI_API_KEY is set, leave it and take no key" },
	{ "as", 0, OPTION_TEXT, OPT_AS, OPTION_AT(as), "NAME=VALUE,…",
	  "for that peer instead of yourself (admin)" },
	{ "lease", 0, OPTION_TEXT, OPT_LEASE, OPTION_AT(lease), "LEASE",
	  "this lease, and its key if that is not shared" },
	{ "uid", 0, OPTION_USER, OPT_UID, OPTION_AT(uid), "USER", "all leases of this user" },
	{ "key-hash", 0, OPTION_TEXT, OPT_KEY_HASH, OPTION_AT(key_hash), "HASH",
	  "the key whose SHA-256 begins so: 8 to 64 hex digits, as status and leases show" },
	{ "since", 0, OPTION_TIME, OPT_FILTER, OPTION_AT(since_ms), "WHEN",
	  "rows since then: 2h (ago), 2026-11-22T03:17:26Z, 2026-11-22 or 2026-11-22 03:17:26 (local time)" },
	{ "until", 0, OPTION_TIME, OPT_UNTIL, OPTION_AT(until_ms), "WHEN", "rows before then" },
	{ "uid", 0, OPTION_USER, OPT_FILTER, OPTION_AT(uid), "USER", "rows about this user" },
	{ "unit", 0, OPTION_TEXT, OPT_FILTER, OPTION_AT(unit), "UNIT",
	  "rows about this systemd unit" },
	{ "profile", 'p', OPTION_TEXT, OPT_FILTER, OPTION_AT(profile), "NAME",
	  "rows about this profile" },
	{ "lease", 0, OPTION_TEXT, OPT_FILTER, OPTION_AT(lease), "LEASE", "rows about this lease" },
	{ "event", 'e', OPTION_TEXT, OPT_FILTER, OPTION_AT(event), "EVENT",
	  "acquire, release, expire, mint, rotate, revoke, delete, reload, …" },
	{ "outcome", 0, OPTION_TEXT, OPT_FILTER, OPTION_AT(outcome), "OUTCOME",
	  "ok, denied, refused, failed, …" },
	{ "key-hash", 0, OPTION_TEXT, OPT_FILTER, OPTION_AT(key_hash), "HASH",
	  "who had this key? its SHA-256, as `printf %s \"$KEY\" | sha256sum` shows it" },
	{ "after", 0, OPTION_NUMBER, OPT_AFTER, OPTION_AT(after), "N",
	  "rows after this sequence number" },
	{ "limit", 'n', OPTION_NUMBER, OPT_LIMIT, OPTION_AT(limit), "N", "at most this many rows" },
	{ "state", 0, OPTION_TEXT, OPT_PLACE, OPTION_AT(state), "DIR",
	  "the directory of state.db (default: as the broker says, else the usual places)" },
	{ "seal-key", 0, OPTION_TEXT, OPT_PLACE, OPTION_AT(seal_key), "FILE",
	  "the seal key of that state (default: likewise)" },
	{ "system", 0, OPTION_FLAG, OPT_PLACE, OPTION_AT(system), NULL,
	  "the system's places (/etc, /var/lib), if no broker says" },
	{ "head", 0, OPTION_TEXTS, OPT_VERIFY, OPTION_AT(heads), "SEQ:HASH",
	  "a row that must still be there, as the broker's log has it; may be given several times" },
	{ "export", 0, OPTION_TEXT, OPT_VERIFY, OPTION_AT(export_file), "FILE",
	  "verify this export (- is stdin) instead of a state; needs --key" },
	{ "key", 0, OPTION_TEXT, OPT_VERIFY, OPTION_AT(key_file), "FILE",
	  "the audit key, as `audit key` wrote it" },
	{ "from", 0, OPTION_NUMBER, OPT_EXPORT, OPTION_AT(from), "N",
	  "the first row (default: the oldest)" },
	{ "to", 0, OPTION_NUMBER, OPT_EXPORT, OPTION_AT(to), "N",
	  "the last row (default: the newest)" },
	{ "new", 0, OPTION_FLAG, OPT_EXPORT, OPTION_AT(only_new), NULL,
	  "only what has not been exported" },
	{ "out", 0, OPTION_TEXT, OPT_OUT, OPTION_AT(out), "FILE",
	  "a new file, mode 0600 (default: stdout, if that is no terminal)" },
	{ "before", 0, OPTION_TIME, OPT_PRUNE, OPTION_AT(before_ms), "WHEN",
	  "rows before then: 90d (ago), 2026-11-22T03:17:26Z, 2026-11-22 or 2026-11-22 03:17:26 (local time)" },
	{ "not-exported", 0, OPTION_FLAG, OPT_PRUNE, OPTION_AT(not_exported), NULL,
	  "also rows that were never exported" },
	{ "restart-on-rotate", 0, OPTION_FLAG, OPT_SUPERVISE, OPTION_AT(restart_on_rotate), NULL,
	  "end CMD and start it again when there is a new key" },
	{ "key-file", 0, OPTION_TEXT, OPT_SUPERVISE, OPTION_AT(key_file), "PATH",
	  "keep the key in this file (0600) instead of the environment; replaced at once when it rotates" },
	{ "watch-signal", 0, OPTION_TEXT, OPT_SUPERVISE, OPTION_AT(watch_signal), "SIGNAL",
	  "send CMD this signal (HUP, USR1, …) when the key file was replaced" },
	{ "now", 0, OPTION_FLAG, OPT_NOW, OPTION_AT(now), NULL,
	  "delete the old keys as soon as there is a new one, whoever has them" },
	{ "spend", 0, OPTION_FLAG, OPT_SPEND, OPTION_AT(spend), NULL,
	  "also what LiteLLM has counted for teams and keys" },
	{ "socket", 0, OPTION_TEXT, OPT_GLOBAL, OPTION_AT(socket), "PATH",
	  "the broker's socket (also KEYBROKER_SOCKET)" },
	{ "admin-socket", 0, OPTION_TEXT, OPT_GLOBAL, OPTION_AT(admin_socket), "PATH",
	  "its admin socket (also KEYBROKER_ADMIN_SOCKET)" },
	{ "timeout", 0, OPTION_SECONDS, OPT_GLOBAL, OPTION_AT(timeout_ms), "SECONDS",
	  "give up after this long (default: 30 where LiteLLM may be asked, else 10)" },
	{ "json", 0, OPTION_FLAG, OPT_GLOBAL, OPTION_AT(json), NULL, "print JSON" },
	{ "quiet", 'q', OPTION_FLAG, OPT_GLOBAL, OPTION_AT(quiet), NULL,
	  "no notices on stderr, only errors" },
	{ "help", 'h', OPTION_FLAG, OPT_GLOBAL, OPTION_AT(help), NULL, "show this help" },
	{ "version", 0, OPTION_FLAG, OPT_GLOBAL, OPTION_AT(version), NULL, "show the version" },
};

enum { OPTION_LONG_BASE = 256 }; /* what getopt yields for row 0 */

static const char *const option_wants[] = {
	[OPTION_TEXTS] = "taken: the option was given too often",
	[OPTION_NUMBER] = "a whole number, 0 or more",
	[OPTION_USER] = "a uid or a user that is known here",
	[OPTION_DURATION] = "a duration such as 30s, 15m, 2h or 1d",
	[OPTION_SECONDS] = "a number of seconds over 0",
	[OPTION_TIME] =
		"a time such as 2h (ago), 2026-11-22T03:17:26Z, 2026-11-22 or 2026-11-22 03:17:26",
};

void options_init(struct options *o)
{
	*o = (struct options){ 0 };
	for (size_t i = 0; i < ARRAY_SIZE(option_rows); i++)
		if (option_rows[i].type >= OPTION_NUMBER)
			*(int64_t *)(void *)((char *)o + option_rows[i].offset) = -1;
}

static bool option_number(const char *text, int64_t *ret)
{
	char *end;

	errno = 0;
	long long n = strtoll(text, &end, 10);
	if (errno != 0 || end == text || *end || *text < '0' || *text > '9')
		return false;
	*ret = n;
	return true;
}

static bool option_user(const char *name, int64_t *ret_uid)
{
	const struct passwd *pw = getpwnam(name);

	if (pw)
		*ret_uid = pw->pw_uid;
	return pw != NULL;
}

static bool option_seconds(const char *text, int64_t *ret_ms)
{
	char *end;
	double n = strtod(text, &end);

	if (end == text || *end || !(n >= 0.001) || n > 86400)
		return false;
	*ret_ms = (int64_t)(n * 1000);
	return true;
}

static bool option_texts_add(struct option_texts *texts, const char *value)
{
	if (texts->n == OPTIONS_TEXTS_MAX)
		return false;
	texts->items[texts->n++] = value;
	return true;
}

static bool option_take(struct options *o, const struct option_row *row, const char *value)
{
	void *at = (char *)o + row->offset;

	switch (row->type) {
	case OPTION_FLAG:
		*(bool *)at = true;
		return true;
	case OPTION_TEXT:
		*(const char **)at = value;
		return true;
	case OPTION_TEXTS:
		return option_texts_add(at, value);
	case OPTION_NUMBER:
		return option_number(value, at);
	case OPTION_USER:
		return option_number(value, at) || option_user(value, at);
	case OPTION_DURATION:
		return when_parse_duration(value, at);
	case OPTION_SECONDS:
		return option_seconds(value, at);
	case OPTION_TIME:
		return when_parse_time(value, cli_now_ms(), at);
	}
	return false;
}

/* What getopt wants, made of the rows that are allowed. */
static void option_prepare(unsigned allowed, bool permute, struct option longs[], char *shorts)
{
	size_t n = 0;

	if (!permute)
		*shorts++ = '+';
	for (size_t i = 0; i < ARRAY_SIZE(option_rows); i++) {
		const struct option_row *row = &option_rows[i];

		if (!(row->which & allowed))
			continue;
		longs[n++] = (struct option){ row->name, row->arg != NULL, NULL,
					      OPTION_LONG_BASE + (int)i };
		if (row->letter)
			*shorts++ = row->letter;
		if (row->letter && row->arg)
			*shorts++ = ':';
	}
	*shorts = '\0';
	longs[n] = (struct option){ 0 };
}

static const struct option_row *option_row_of(int c)
{
	for (size_t i = 0; i < ARRAY_SIZE(option_rows); i++)
		if (c == OPTION_LONG_BASE + (int)i || (c && c == option_rows[i].letter))
			return &option_rows[i];
	return NULL;
}

int options_parse(struct options *o, unsigned allowed, bool permute, int argc, char **argv)
{
	struct option longs[ARRAY_SIZE(option_rows) + 1];
	char shorts[2 * ARRAY_SIZE(option_rows) + 2];
	int c;

	option_prepare(allowed | OPT_GLOBAL, permute, longs, shorts);
	optind = 0; /* glibc: start anew */
	while ((c = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		const struct option_row *row = option_row_of(c);

		if (!row)
			return -1;
		if (option_take(o, row, optarg))
			continue;
		(void)fprintf(stderr, "%s: --%s: \"%s\" is not %s\n", argv[0], row->name, optarg,
			      option_wants[row->type]);
		return -1;
	}
	return optind;
}

void options_help(FILE *f, unsigned which)
{
	for (size_t i = 0; i < ARRAY_SIZE(option_rows); i++) {
		const struct option_row *row = &option_rows[i];
		char left[64];

		if (!(row->which & which))
			continue;
		(void)snprintf(left, sizeof(left), "--%s%s%s", row->name, row->arg ? " " : "",
			       row->arg ? row->arg : "");
		if (row->letter)
			(void)fprintf(f, "  -%c, %-22s  %s\n", row->letter, left, row->help);
		else
			(void)fprintf(f, "      %-22s  %s\n", left, row->help);
	}
}
