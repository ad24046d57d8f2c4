/*
 * `audit verify`, `export`, `key` and `prune`. The first three are done by a program beside this
 * one, which reads the state itself; the broker is told before, so that each reading is on record.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "cli/command.h"
#include "cli/field.h"
#include "cli/json_out.h"
#include "cli/libexec.h"
#include "clients/c/call.h"
#include "proto/message.h"

/* The command line of the program, word by word. */
struct audit_words {
	char *words[2 * OPTIONS_TEXTS_MAX + 32];
	size_t n;
};

static void audit_word(struct audit_words *w, const char *text)
{
	w->words[w->n++] = xstrdup(text);
}

/* Nothing for NULL and "". */
static void audit_option(struct audit_words *w, const char *name, const char *value)
{
	if (!value || !*value)
		return;
	audit_word(w, name);
	audit_word(w, value);
}

static void audit_option_number(struct audit_words *w, const char *name, int64_t value)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%" PRId64, value);
	audit_option(w, name, text);
}

static void audit_begin(struct audit_words *w, const char *command)
{
	_cleanup_(freep) char *path = libexec_find("audit");

	*w = (struct audit_words){ .n = 0 };
	audit_word(w, path);
	audit_word(w, command);
}

static int audit_run(struct audit_words *w)
{
	int r;

	(void)fflush(stdout); /* what it prints comes behind */
	r = libexec_run(w->words);
	for (size_t i = 0; i < w->n; i++)
		free(w->words[i]);
	return r;
}

/* Where the state and its key are, as said here or else by the broker that has just been told. */
static void audit_place(const struct cli *c, struct audit_words *w, const struct value *told)
{
	const struct options *o = &c->options;

	audit_option(w, "--state", o->state ? o->state : field_text(told, "state_dir"));
	audit_option(w, "--seal-key", o->seal_key ? o->seal_key : field_text(told, "seal_key"));
	if (o->system)
		audit_word(w, "--system");
	if (o->quiet)
		audit_word(w, "--quiet");
}

/*
 * A broker that cannot record a reading must not lead to another state than its own, whole as that
 * may be: it says where its own is.
 */
static int audit_ask_place(const struct cli *c, struct keybroker *k, struct message **ret)
{
	const struct call call = { .method = "status" };
	struct keybroker_error e;

	if (keybroker_call(k, &call, ret, &e) == KEYBROKER_OK)
		return CLI_OK;
	return cli_fail(c, CLI_TRY_LATER,
			"the broker does not say where its state is (%s): name it by --state",
			e.message);
}

/*
 * Tells the broker. Without one, or with another one's state, or if it cannot record that, the
 * reading goes on: a verification is for the day when nothing else works. `ret` may stay NULL.
 */
static int audit_tell(const struct cli *c, const char *method, struct message **ret)
{
	_cleanup_(freep) char *state = c->options.state ? realpath(c->options.state, NULL) : NULL;
	const struct call_param params[] = {
		CALL_PARAM_TEXT("state_dir", state ? state : c->options.state),
	};
	const struct call call = { .method = method,
				   .params = params,
				   .n_params = ARRAY_SIZE(params) };
	const struct keybroker_options options = { .socket = c->options.socket,
						   .timeout_ms = MAX_OF(c->options.timeout_ms, 0) };
	_cleanup_(keybroker_closep) struct keybroker *k = NULL;
	struct keybroker_error e;
	enum keybroker_code code = call_open(&k, &options, true, c->options.admin_socket, &e);

	if (code == KEYBROKER_OK)
		code = keybroker_call(k, &call, ret, &e);
	if (code == KEYBROKER_OK)
		return CLI_OK;
	cli_notice(c, "this reading of the audit is not recorded: %s", e.message);
	return k && !c->options.state ? audit_ask_place(c, k, ret) : CLI_OK;
}

static void audit_heads(const struct cli *c, struct audit_words *w, const struct value *told)
{
	const struct option_texts *heads = &c->options.heads;

	for (size_t i = 0; i < heads->n; i++)
		audit_option(w, "--head", heads->items[i]);
	if (!*field_text(told, "hash"))
		return;
	/* the broker knows its last row: an audit that was cut off behind its back is found out */
	_cleanup_(freep) char *head =
		xasprintf("%" PRId64 ":%s", field_int(told, "sequence"), field_text(told, "hash"));
	audit_option(w, "--head", head);
}

/* The verdict is for the record, too. */
static int audit_tell_verdict(const struct cli *c, FILE *from)
{
	long long last = 0, first_bad = 0;
	char fault[32] = "";
	/* without a line it came to none */
	if (fscanf(from, "%lld %lld %31s", &last, &first_bad, fault) < 2)
		return CLI_OK;
	const struct call_param params[] = {
		CALL_PARAM_INT("sequence", last),
		CALL_PARAM_INT("first_bad", first_bad > 0 ? first_bad : -1),
		CALL_PARAM_TEXT("fault", *fault ? fault : NULL),
	};
	const struct call call = { .method = "audit_verified",
				   .params = params,
				   .n_params = ARRAY_SIZE(params) };
	_cleanup_(message_freep) struct message *m = NULL;
	int r = cli_call(c, true, &call, &m);

	if (r != CLI_OK)
		cli_warning("the verdict is not recorded");
	return r;
}

/* Runs it with a pipe for its verdict; what it yields counts. */
static int audit_run_recorded(const struct cli *c, struct audit_words *w)
{
	FILE *from;
	int fds[2], r;

	/* the end for writing is the program's */
	if (pipe2(fds, O_CLOEXEC) < 0 || fcntl(fds[1], F_SETFD, 0) < 0)
		return cli_fail(c, CLI_OS, "no pipe can be made");
	from = fdopen(fds[0], "r");
	audit_option_number(w, "--verdict-fd", fds[1]);
	r = from ? audit_run(w) : CLI_OS;
	(void)close(fds[1]);
	if (!from)
		return r;
	if (audit_tell_verdict(c, from) != CLI_OK && r == 0)
		r = CLI_TRY_LATER;
	(void)fclose(from); /* only read from */
	return r;
}

int command_audit_verify(struct cli *c)
{
	const struct options *o = &c->options;
	_cleanup_(message_freep) struct message *m = NULL;
	const struct value *told = NULL;
	struct audit_words w;
	int r = CLI_OK;

	if (!o->export_file && !o->key_file)
		r = audit_tell(c, "audit_verify", &m);
	if (r != CLI_OK)
		return r;
	told = m ? message_result(m) : NULL;
	audit_begin(&w, "verify");
	audit_place(c, &w, told);
	audit_option(&w, "--export", o->export_file);
	audit_option(&w, "--key", o->key_file);
	audit_heads(c, &w, told);
	if (o->json)
		audit_word(&w, "--json");
	/* the hash is there if the broker has this reading on record */
	return *field_text(told, "hash") ? audit_run_recorded(c, &w) : audit_run(&w);
}

int command_audit_key(struct cli *c)
{
	_cleanup_(message_freep) struct message *m = NULL;
	struct audit_words w;
	int r;

	if (!c->options.out && isatty(STDOUT_FILENO))
		return cli_usage(c,
				 "the audit key is a secret: name a file by --out, or use a pipe");
	r = audit_tell(c, "audit_key", &m);
	if (r != CLI_OK)
		return r;
	audit_begin(&w, "key");
	audit_place(c, &w, m ? message_result(m) : NULL);
	audit_option(&w, "--out", c->options.out);
	return audit_run(&w);
}

/* --- export --- */

/* What left is told, so that a prune may take it. */
static int audit_tell_exported(const struct cli *c, int64_t from, int64_t to)
{
	const struct call_param params[] = {
		CALL_PARAM_INT("from", from),
		CALL_PARAM_INT("sequence", to),
	};
	const struct call call = { .method = "audit_exported",
				   .params = params,
				   .n_params = ARRAY_SIZE(params) };
	_cleanup_(message_freep) struct message *m = NULL;
	int r = cli_call(c, true, &call, &m);

	if (r != CLI_OK) {
		cli_warning(
			"the rows were exported, but the broker does not know: a prune will not "
			"take them");
		return r;
	}
	int64_t exported = field_int(message_result(m), "exported");
	if (exported < to)
		cli_notice(c,
			   "the rows from %" PRId64 " on are not exported without a gap: a prune "
			   "will not take them",
			   exported + 1);
	return CLI_OK;
}

int command_audit_export(struct cli *c)
{
	const struct options *o = &c->options;
	const struct call_param params[] = {
		CALL_PARAM_INT("from", o->from),
		CALL_PARAM_INT("to", o->to),
		CALL_PARAM_BOOL("new", o->only_new),
	};
	const struct call call = { .method = "audit_export",
				   .params = params,
				   .n_params = ARRAY_SIZE(params) };
	_cleanup_(message_freep) struct message *m = NULL;
	struct audit_words w;
	int r;

	if (o->only_new && o->from >= 0)
		return cli_usage(c, "--new says where to begin, and so does --from");
	r = cli_call(c, true, &call, &m);
	if (r != CLI_OK)
		return r;
	const struct value *told = message_result(m);
	int64_t from = field_int(told, "from"), to = field_int(told, "to");
	audit_begin(&w, "export");
	audit_place(c, &w, told);
	audit_option_number(&w, "--from", from);
	audit_option_number(&w, "--to", to);
	r = audit_run(&w);
	return r == 0 ? audit_tell_exported(c, from, to) : r;
}

/* --- prune --- */

/* One call takes a bounded number of rows; this is asked until there are no more. */
static int audit_prune_all(struct cli *c, struct keybroker *k, int64_t *removed, int64_t *sequence)
{
	const struct call_param params[] = {
		CALL_PARAM_INT("before_ms", c->options.before_ms),
		CALL_PARAM_BOOL("not_exported", c->options.not_exported),
	};
	const struct call call = { .method = "audit_prune",
				   .params = params,
				   .n_params = ARRAY_SIZE(params) };
	bool more = true;

	while (more) {
		_cleanup_(message_freep) struct message *m = NULL;
		struct keybroker_error e;

		if (keybroker_call(k, &call, &m, &e) != KEYBROKER_OK)
			return cli_report(c, &e);
		*removed += field_int(message_result(m), "removed");
		*sequence = field_int(message_result(m), "sequence");
		more = value_bool(value_get(message_result(m), "more"), false);
	}
	return CLI_OK;
}

int command_audit_prune(struct cli *c)
{
	_cleanup_(keybroker_closep) struct keybroker *k = NULL;
	int64_t removed = 0, sequence = 0;
	int r;

	if (c->options.before_ms < 0)
		return cli_usage(c, "say which rows: --before 90d, for example");
	if (c->options.timeout_ms < 0)
		c->options.timeout_ms = 60000; /* of one call */
	r = cli_connect(c, true, &k);
	if (r == CLI_OK)
		r = audit_prune_all(c, k, &removed, &sequence);
	if (r != CLI_OK && removed > 0)
		cli_warning("%" PRId64 " rows were pruned before", removed);
	if (r != CLI_OK)
		return r;
	if (c->options.json)
		printf("{\"removed\":%" PRId64 ",\"sequence\":%" PRId64 "}\n", removed, sequence);
	else if (removed > 0)
		printf("%" PRId64 " rows pruned; the audit begins at row %" PRId64 "\n", removed,
		       sequence + 1);
	else
		printf("there are no such rows; nothing was pruned\n");
	return CLI_OK;
}
