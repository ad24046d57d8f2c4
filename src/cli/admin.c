/* The commands that change something: rotate, revoke, import, reload. */
#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "cli/command.h"
#include "cli/field.h"
#include "cli/import_file.h"
#include "cli/json_out.h"
#include "cli/text.h"
#include "cli/when.h"
#include "proto/message.h"

enum { ADMIN_HASH_LEAST = 8, ADMIN_HASH_DIGITS = 64 };

static void admin_print_json(const struct value *result)
{
	json_out(stdout, result);
	putchar('\n');
}

/* A sentence of the reply's own names, cleaned. */
static void admin_say(const char *fmt, ...) _printf_(1, 2);
static void admin_say(const char *fmt, ...)
{
	_cleanup_(freep) char *text = NULL;
	va_list args;

	va_start(args, fmt);
	int n = vasprintf(&text, fmt, args);
	va_end(args);
	if (n < 0)
		abort();
	_cleanup_(freep) char *clean = text_clean(text);
	puts(clean);
}

static void admin_say_new_key(const struct value *v, const char *what)
{
	int64_t expires = 0;
	char when[WHEN_SIZE] = "";

	if (value_int(value_get(v, "expires_at_ms"), &expires))
		when_both(expires, cli_now_ms(), when);
	admin_say("%s %s: generation %" PRId64 ", alias %s, key %s%s%s", field_text(v, "profile"),
		  what, field_int(v, "generation"), field_text(v, "alias"),
		  field_text(v, "key_hash"), expires ? ", expires " : "", when);
}

int command_rotate(struct cli *c)
{
	const struct call_param params[] = {
		CALL_PARAM_TEXT("profile", c->n_operands ? c->operands[0] : "service"),
	};
	char count[FIELD_COUNT_SIZE];
	const struct call call = { "rotate", params, ARRAY_SIZE(params), true, true };
	_cleanup_(message_freep) struct message *m = NULL;
	int r = cli_call(c, true, &call, &m);

	if (r != CLI_OK)
		return r;
	const struct value *v = message_result(m), *old = value_get(v, "retiring");
	if (c->options.json) {
		admin_print_json(v);
		return CLI_OK;
	}
	admin_say_new_key(v, "has a new key");
	if (old)
		admin_say("generation %" PRId64 " retires as %s, held by %s, %" PRId64
			  " of them fixed",
			  field_int(old, "generation"), field_text(old, "alias"),
			  field_count(old, "leases", "lease", count), field_int(old, "fixed"));
	return CLI_OK;
}

/* A SHA-256, or its beginning, in the lower case that the broker takes. */
static bool admin_read_hash(const char *text, char ret[ADMIN_HASH_DIGITS + 1])
{
	size_t n = 0;

	for (; n < ADMIN_HASH_DIGITS && isxdigit((unsigned char)text[n]); n++)
		ret[n] = (char)tolower((unsigned char)text[n]);
	ret[n] = '\0';
	return n >= ADMIN_HASH_LEAST && text[n] == '\0';
}

int command_revoke(struct cli *c)
{
	const struct options *o = &c->options;
	char hash[ADMIN_HASH_DIGITS + 1] = "";
	const struct call_param params[] = {
		CALL_PARAM_TEXT("lease", o->lease),
		CALL_PARAM_TEXT("profile", o->profile),
		CALL_PARAM_TEXT("key_hash", o->key_hash ? hash : NULL),
		CALL_PARAM_INT("uid", o->uid),
	};
	char leases[FIELD_COUNT_SIZE], keys[FIELD_COUNT_SIZE];
	const struct call call = { "revoke", params, ARRAY_SIZE(params), true, false };
	_cleanup_(message_freep) struct message *m = NULL;

	if ((o->lease != NULL) + (o->profile != NULL) + (o->key_hash != NULL) + (o->uid >= 0) != 1)
		return cli_usage(c, "give one of --lease, --profile, --uid, --key-hash");
	if (o->key_hash && !admin_read_hash(o->key_hash, hash))
		return cli_usage(c, "--key-hash is not 8 to 64 hex digits of a SHA-256");
	int r = cli_call(c, true, &call, &m);
	if (r != CLI_OK)
		return r;
	const struct value *v = message_result(m);
	if (o->json)
		admin_print_json(v);
	else
		admin_say("%s ended, %s taken down", field_count(v, "leases", "lease", leases),
			  field_count(v, "keys", "key", keys));
	cli_notice(c, "other LiteLLM processes may honour a revoked key for up to 60 s more");
	return CLI_OK;
}

static int admin_import_call(struct cli *c, const struct import_file *f)
{
	const struct call_param params[] = {
		CALL_PARAM_TEXT("profile", c->options.profile ? c->options.profile : "service"),
		CALL_PARAM_TEXT("token", f->token),
		CALL_PARAM_TEXT("alias", f->alias),
		CALL_PARAM_TEXT("team_id", f->team_id),
		CALL_PARAM_TEXT("base_url", f->base_url),
		f->created_at ? CALL_PARAM_TEXT("created_at", f->created_at)
			      : CALL_PARAM_INT("created_at", f->created_at_ms),
	};
	const struct call call = { "import", params, ARRAY_SIZE(params), true, false };
	_cleanup_(message_freep) struct message *m = NULL;
	int r = cli_call(c, true, &call, &m);

	if (r == CLI_OK && c->options.json)
		admin_print_json(message_result(m));
	else if (r == CLI_OK)
		admin_say_new_key(message_result(m), "has the imported key");
	else
		cli_error("%s was not imported", c->operands[0]);
	if (r == CLI_OK)
		cli_notice(c,
			   "programs that have this key without the broker do not count as its "
			   "holders: start them with `keybroker exec` within 24 h of its rotation");
	return r;
}

int command_import(struct cli *c)
{
	struct import_file f = { .doc = NULL };
	char why[256];

	if (c->n_operands != 1)
		return cli_usage(c, "there is no file to import");
	json_init();
	int r = import_file_read(&f, c->operands[0], why, sizeof(why));
	if (r != CLI_OK)
		cli_error("%s: %s", c->operands[0], why);
	else
		r = admin_import_call(c, &f);
	import_file_deinit(&f);
	return r;
}

int command_reload(struct cli *c)
{
	const struct call call = { .method = "reload" };
	char profiles[FIELD_COUNT_SIZE], rules[FIELD_COUNT_SIZE];
	_cleanup_(message_freep) struct message *m = NULL;
	int r = cli_call(c, true, &call, &m);

	if (r == CLI_OK && c->options.json)
		admin_print_json(message_result(m));
	else if (r == CLI_OK)
		admin_say("configuration read: %s, %s",
			  field_count(message_result(m), "profiles", "profile", profiles),
			  field_count(message_result(m), "rules", "rule", rules));
	/* it has no params, so what is invalid is the file that was read */
	return r == CLI_USAGE ? CLI_CONFIG : r;
}
