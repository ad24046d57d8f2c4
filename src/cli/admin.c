/* The commands that change something: rotate, revoke, import, reload, sweep. */
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

enum { ADMIN_HASH_LEAST = 8 };

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
		CALL_PARAM_BOOL("now", c->options.now),
	};
	char count[FIELD_COUNT_SIZE];
	const struct call call = { "rotate", params, ARRAY_SIZE(params), true, true };
	_cleanup_(message_freep) struct message *m = NULL;
	int r = cli_call(c, true, &call, &m);

	if (r != CLI_OK)
		return r;
	const struct value *v = message_result(m), *old = value_get(v, "retiring");
	const struct value *older = value_get(v, "older");
	if (c->options.json) {
		json_out_line(v);
		return CLI_OK;
	}
	admin_say_new_key(v, "has a new key");
	if (old && c->options.now)
		admin_say("generation %" PRId64 " and those before it are deleted now; %s had "
			  "them, %" PRId64 " of them fixed",
			  field_int(old, "generation"),
			  field_count(older, "leases", "lease", count), field_int(older, "fixed"));
	else if (old)
		admin_say("generation %" PRId64 " retires as %s, held by %s, %" PRId64
			  " of them fixed",
			  field_int(old, "generation"), field_text(old, "alias"),
			  field_count(old, "leases", "lease", count), field_int(old, "fixed"));
	return CLI_OK;
}

static void admin_say_kept(const struct cli *c, const struct value *kept)
{
	for (size_t i = 0; i < value_len(kept); i++) {
		const char *profile = field_text(value_at(kept, i), "profile");
		bool shared = strcmp(field_text(value_at(kept, i), "mode"), "shared") == 0;

		cli_notice(c,
			   "the key of profile %s was not revoked: who has it can go on using it; "
			   "%s%s%s",
			   profile,
			   shared ? "`keybroker revoke --profile "
				  : "it is the provider's own: revoke it there",
			   shared ? profile : "", shared ? "` takes it from all" : "");
	}
}

/* What is not done, or not yet; an incident's script goes by the exit code. */
static int admin_revoked(const struct cli *c, const struct value *v)
{
	const struct value *pending = value_get(v, "pending");
	char since[WHEN_SIZE];

	if (field_int(v, "leases") == 0 && field_int(v, "keys") == 0)
		return cli_fail(c, CLI_DATA, "no lease and no key matches: nothing was revoked");
	admin_say_kept(c, value_get(v, "kept"));
	if (field_int(v, "keys") > 0)
		cli_notice(c, "other LiteLLM processes may honour a revoked key for up to 60 s "
			      "after its deletion");
	if (!pending)
		return CLI_OK;
	if (!value_get(pending, "since_at_ms"))
		return cli_fail(
			c, CLI_TRY_LATER,
			"LiteLLM has not confirmed that the keys are gone (%s): until it has, "
			"they may work there; the broker keeps trying, and `keybroker status` "
			"shows how it is",
			*field_text(pending, "error") ? field_text(pending, "error")
						      : "no answer yet");
	when_both(field_int(pending, "since_at_ms"), cli_now_ms(), since);
	return cli_fail(
		c, CLI_TRY_LATER,
		"LiteLLM cannot be reached since %s: the keys work there until the broker, which "
		"keeps trying, can delete them; `keybroker status` shows how it is (%s)",
		since, field_text(pending, "error"));
}

int command_revoke(struct cli *c)
{
	const struct options *o = &c->options;
	char hash[TEXT_HASH_SIZE] = "";
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
	if (o->key_hash && !text_hash(o->key_hash, ADMIN_HASH_LEAST, hash))
		return cli_usage(c, "--key-hash is not 8 to 64 hex digits of a SHA-256");
	int r = cli_call(c, true, &call, &m);
	/* a lease or profile that is not there: nothing matches */
	if ((r == CLI_USAGE && o->lease) || (r == CLI_CONFIG && o->profile))
		return CLI_DATA;
	if (r != CLI_OK)
		return r;
	const struct value *v = message_result(m);
	if (o->json)
		json_out_line(v);
	else
		admin_say("%s ended, %s %s", field_count(v, "leases", "lease", leases),
			  field_count(v, "keys", "key", keys),
			  value_get(v, "pending") ? "being taken down" : "taken down");
	return admin_revoked(c, v);
}

static void admin_imported(const struct cli *c, const struct import_file *f,
			   const struct value *warnings)
{
	for (size_t i = 0; i < value_len(warnings); i++)
		cli_warning("%s", value_text(value_at(warnings, i)));
	if (f->mode & 077)
		cli_warning("%s has mode %04o: others may have read the key; consider "
			    "`keybroker rotate`",
			    c->operands[0], f->mode);
	cli_notice(c, "programs that have this key without the broker do not count as its "
		      "holders: start them with `keybroker exec` within 24 h of its rotation");
	if (f->mode)
		cli_notice(c, "%s holds the key: delete it once nothing but the broker needs it",
			   c->operands[0]);
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

	if (r != CLI_OK)
		return r == CLI_USAGE ? CLI_DATA : r; /* all that it was asked for is the file's */
	if (c->options.json)
		json_out_line(message_result(m));
	else
		admin_say_new_key(message_result(m), "has the imported key");
	admin_imported(c, f, value_get(message_result(m), "warnings"));
	return CLI_OK;
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
		(void)cli_fail(c, (enum cli_exit)r, "%s: %s", c->operands[0], why);
	else
		r = admin_import_call(c, &f);
	import_file_deinit(&f);
	return r;
}

static void admin_say_restart(const struct value *waits)
{
	_cleanup_(freep) char *names = field_join(waits);

	if (*names)
		cli_warning("changed, but in force only after a restart of the broker: %s", names);
}

static void admin_say_master(const struct cli *c, const struct value *master)
{
	const char *source = field_text(master, "source");

	if (!master || c->options.json)
		return;
	if (strcmp(source, "environment") == 0)
		cli_notice(c, "the master key is the environment's, which is read at a start only: "
			      "restart the broker to change it, or use LITELLM_MASTER_KEY_FILE");
	else if (value_bool(value_get(master, "changed"), false))
		admin_say("the master key is another one now, read from the %s", source);
}

int command_reload(struct cli *c)
{
	const struct call call = { .method = "reload" };
	char profiles[FIELD_COUNT_SIZE], rules[FIELD_COUNT_SIZE];
	_cleanup_(message_freep) struct message *m = NULL;
	int r = cli_call(c, true, &call, &m);

	if (r == CLI_OK && c->options.json)
		json_out_line(message_result(m));
	else if (r == CLI_OK)
		admin_say("configuration read: %s, %s",
			  field_count(message_result(m), "profiles", "profile", profiles),
			  field_count(message_result(m), "rules", "rule", rules));
	if (r == CLI_OK) {
		admin_say_master(c, value_get(message_result(m), "master_key"));
		admin_say_restart(value_get(message_result(m), "restart"));
	}
	/* it has no params, so what is invalid is the file that was read */
	return r == CLI_USAGE ? CLI_CONFIG : r;
}

int command_sweep(struct cli *c)
{
	const struct call call = { .method = "sweep", .upstream = true };
	char listed[FIELD_COUNT_SIZE];
	_cleanup_(message_freep) struct message *m = NULL;
	int r = cli_call(c, true, &call, &m);

	if (r != CLI_OK)
		return r;
	const struct value *v = message_result(m);
	if (c->options.json) {
		json_out_line(v);
		return CLI_OK;
	}
	admin_say("%s of this broker at LiteLLM, %" PRId64
		  " deleted that it does not know, %" PRId64 " marked",
		  field_count(v, "listed", "key", listed), field_int(v, "deleted"),
		  field_int(v, "marked"));
	if (field_int(v, "marked") > 0)
		cli_notice(c, "what is marked is deleted by the next sweep that still finds it");
	return CLI_OK;
}
