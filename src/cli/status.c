/* `keybroker status`: the broker on one screen. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "cli/command.h"
#include "cli/field.h"
#include "cli/pages.h"
#include "cli/spend.h"
#include "cli/table.h"
#include "cli/text.h"
#include "cli/when.h"
#include "proto/message.h"

static void status_line(const char *name, const char *fmt, ...) _printf_(2, 3);
static void status_line(const char *name, const char *fmt, ...)
{
	_cleanup_(freep) char *text = NULL;
	va_list args;

	va_start(args, fmt);
	int n = vasprintf(&text, fmt, args);
	va_end(args);
	if (n < 0)
		abort();
	field_print(stdout, name, text);
}

static void status_when(const struct value *v, const char *name, const char *before,
			char ret[2 * WHEN_SIZE])
{
	char when[WHEN_SIZE];
	int64_t at;

	*ret = '\0';
	if (!value_int(value_get(v, name), &at))
		return;
	when_relative(at, cli_now_ms(), when);
	(void)snprintf(ret, 2 * (size_t)WHEN_SIZE, "%s%s", before, when);
}

static void status_upstream(const struct value *v)
{
	const struct value *upstream = value_get(v, "upstream");
	const struct value *key = value_get(upstream, "master_key");
	const char *url = field_text(upstream, "url"), *error = field_text(upstream, "error");
	char since[WHEN_SIZE] = "";
	int64_t at;

	if (!*url) {
		status_line("LiteLLM", "none: static profiles only");
		return;
	}
	if (value_int(value_get(upstream, "since_at_ms"), &at))
		when_both(at, cli_now_ms(), since);
	status_line("LiteLLM", "%s  %s%s%s%s%s", url,
		    value_bool(value_get(upstream, "reachable"), false) ? "reachable"
									: "NOT reachable",
		    *since ? " since " : "", since, *error ? ": " : "", error);
	if (key)
		status_line("master", "key from %s%s%s", field_text(key, "source"),
			    value_bool(value_get(key, "well_known"), false)
				    ? "; it is a WELL-KNOWN DEFAULT: change it"
				    : "",
			    !value_bool(value_get(key, "rejected"), false) ? ""
			    : strcmp(field_text(key, "source"), "environment") == 0
				    ? "; REJECTED by LiteLLM: restart the broker with the right one"
				    : "; REJECTED by LiteLLM: put the right one in place, then "
				      "`keybroker reload`");
}

static void status_standbys(const struct value *standbys)
{
	for (size_t i = 0; i < value_len(standbys); i++)
		status_line("standby", "\"%s\", pid %" PRId64,
			    field_text(value_at(standbys, i), "instance"),
			    field_int(value_at(standbys, i), "pid"));
}

static void status_audit(const struct value *audit)
{
	int64_t last = field_int(audit, "sequence"), pruned = field_int(audit, "pruned"),
		exported = field_int(audit, "exported");

	if (exported > 0)
		status_line("audit", "rows %" PRId64 " to %" PRId64 ", exported up to %" PRId64,
			    pruned + 1, last, exported);
	else
		status_line("audit", "rows %" PRId64 " to %" PRId64 ", not exported", pruned + 1,
			    last);
}

static void status_broker(const struct value *v)
{
	const struct value *keys = value_get(v, "keys");
	char started[2 * WHEN_SIZE], leases[FIELD_COUNT_SIZE];

	status_when(v, "started_at_ms", ", started ", started);
	status_line("broker", "%s \"%s\", pid %" PRId64 ", term %" PRId64 "%s",
		    field_text(v, "version"), field_text(v, "instance"), field_int(v, "pid"),
		    field_int(v, "term"), started);
	status_standbys(value_get(v, "standbys"));
	status_line("socket", "%s", field_text(v, "socket"));
	status_line("state", "%s  durability %s, install %s", field_text(v, "state_dir"),
		    field_text(v, "durability"), field_text(v, "install"));
	status_upstream(v);
	status_line("keys",
		    "%" PRId64 " live, %" PRId64 " retiring, %" PRId64 " being made, %" PRId64
		    " burned; %s",
		    field_int(keys, "live"), field_int(keys, "retiring"), field_int(keys, "intent"),
		    field_int(keys, "burned"), field_count(v, "leases", "lease", leases));
	status_audit(value_get(v, "audit"));
}

/* A number that only shared profiles have. */
static void status_number_cell(struct table *t, const struct value *row, const char *name)
{
	int64_t n;

	if (value_int(value_get(row, name), &n))
		table_cell(t, "%" PRId64, n);
	else
		table_cell(t, "%s", "");
}

/* Until when the clients of a profile can do without LiteLLM's admin API. */
static void status_outage_cell(struct table *t, const struct value *outage)
{
	bool for_new = value_bool(value_get(outage, "new_callers"), false);
	int64_t keys = field_int(outage, "keys"), endless = field_int(outage, "never_expire");
	char first[2 * WHEN_SIZE], last[2 * WHEN_SIZE];

	status_when(outage, "first_at_ms", "", first);
	status_when(outage, "last_at_ms", "", last);
	if (endless > 0 && *first)
		(void)snprintf(last, sizeof(last), "no limit");
	else if (strcmp(first, last) == 0)
		*last = '\0';
	table_cell(t, "%s%s%s%s%s",
		   *first      ? first
		   : keys == 0 ? ""
			       : "no limit",
		   *last ? " to " : "", last, keys > 0 && !for_new ? "; " : "",
		   for_new ? "" : "new: not at all");
}

/* "on demand, 3 of 5 ready" */
static void status_state_cell(struct table *t, const struct value *row)
{
	const struct value *pool = value_get(row, "pool");

	if (pool)
		table_cell(t, "%s, %" PRId64 " of %" PRId64 " ready", field_text(row, "state"),
			   field_int(pool, "ready"), field_int(pool, "size"));
	else
		table_cell(t, "%s", field_text(row, "state"));
}

static void status_profile_row(struct table *t, const struct value *row)
{
	char expires[2 * WHEN_SIZE];

	status_when(row, "expires_at_ms", "", expires);
	if (!*expires && *field_text(row, "key_hash"))
		(void)snprintf(expires, sizeof(expires), "never");
	table_cell(t, "%s", field_text(row, "name"));
	table_cell(t, "%s", field_text(row, "mode"));
	status_state_cell(t, row);
	status_number_cell(t, row, "generation");
	table_cell(t, "%s", field_text(row, "alias"));
	table_cell(t, "%s", field_text(row, "key_hash"));
	status_number_cell(t, row, "leases");
	table_cell(t, "%s", expires);
	status_outage_cell(t, value_get(row, "outage"));
	table_end_row(t);
}

/* Who asked for a TTL lease has most likely ended; a process of a foreign namespace has no pid. */
static int status_holder(const struct value *holder, char *ret, size_t size)
{
	int64_t pid = field_int(holder, "pid"), uid = field_int(holder, "uid");

	if (strcmp(field_text(holder, "bind"), "ttl") == 0)
		return snprintf(ret, size, "uid %" PRId64 " by TTL", uid);
	if (pid == 0)
		return snprintf(ret, size, "uid %" PRId64, uid);
	return snprintf(ret, size, "pid %" PRId64, pid);
}

/* "deleted when they end, in 23 h at most" */
static void status_held_until(const struct value *row, char *ret, size_t size)
{
	int64_t at = field_int(row, "held_until_ms");
	char when[WHEN_SIZE];

	if (at <= cli_now_ms()) { /* it is here, so it has not been deleted yet */
		when_local(at, when);
		(void)snprintf(ret, size, "due since %s", when);
		return;
	}
	when_relative(at, cli_now_ms(), when);
	(void)snprintf(ret, size, "deleted when %s, %s at most",
		       field_int(row, "fixed") == 1 ? "it ends" : "they end", when);
}

/* "held by 3 fixed leases (pid 12, uid 1000 by TTL, …), deleted when they end, in 23 h at most" */
static void status_holders_cell(struct table *t, const struct value *row)
{
	const struct value *held = value_get(row, "held_by");
	char count[FIELD_COUNT_SIZE], until[2 * WHEN_SIZE], who[192];
	size_t n = 0;

	*who = '\0';
	for (size_t i = 0; i < value_len(held) && n < sizeof(who) - 48; i++) {
		n += (size_t)snprintf(who + n, sizeof(who) - n, "%s", i ? ", " : " (");
		n += (size_t)status_holder(value_at(held, i), who + n, sizeof(who) - n);
	}
	if (n > 0)
		(void)snprintf(who + n, sizeof(who) - n, "%s)",
			       (int64_t)value_len(held) < field_int(row, "fixed") ? ", …" : "");
	status_held_until(row, until, sizeof(until));
	table_cell(t, "held by %s%s, %s", field_count(row, "fixed", "fixed lease", count), who,
		   until);
}

static void status_retiring_row(struct table *t, const struct value *row)
{
	char deleted[2 * WHEN_SIZE] = "", due[WHEN_SIZE];
	int64_t at = field_int(row, "delete_at_ms");

	when_local(at, due);
	if (at > cli_now_ms())
		status_when(row, "delete_at_ms", "deleted ", deleted);
	else if (at > 0) /* it is here, so it has not been deleted yet */
		(void)snprintf(deleted, sizeof(deleted), "due since %s", due);
	table_cell(t, "%s", "");
	table_cell(t, "%s", "");
	table_cell(t, "retiring");
	status_number_cell(t, row, "generation");
	table_cell(t, "%s", field_text(row, "alias"));
	table_cell(t, "%s", field_text(row, "key_hash"));
	status_number_cell(t, row, "leases");
	if (field_int(row, "fixed") > 0)
		status_holders_cell(t, row);
	else
		table_cell(t, "%s", deleted);
	table_cell(t, "%s", "");
	table_end_row(t);
}

static void status_profile_rows(struct table *t, const struct value *row)
{
	const struct value *retiring = value_get(row, "retiring");

	status_profile_row(t, row);
	for (size_t i = 0; i < value_len(retiring); i++)
		status_retiring_row(t, value_at(retiring, i));
}

static void status_profiles(const struct pages_kept *pages)
{
	static const char *const titles[] = { "PROFILE", "MODE",    "STATE",   ">GEN",	 "ALIAS",
					      "KEY",	 ">LEASES", "EXPIRES", "OUTAGE", NULL };
	_cleanup_(table_freep) struct table *t = table_new(titles);

	for (size_t i = 0; i < pages->n; i++) {
		const struct value *profiles = value_get(pages_kept_at(pages, i), "profiles");

		for (size_t k = 0; k < value_len(profiles); k++)
			status_profile_rows(t, value_at(profiles, k));
	}
	putchar('\n');
	table_print(t, stdout, table_width(STDOUT_FILENO));
}

/* A team that is not as the configuration has it. */
static void status_drift(const struct value *row)
{
	const struct value *team = value_get(row, "team");

	if (*field_text(team, "drift"))
		status_line("drift", "%s: team %s%s: %s", field_text(row, "name"),
			    *field_text(team, "alias") ? field_text(team, "alias")
						       : field_text(team, "id"),
			    value_bool(value_get(team, "ours"), false)
				    ? ""
				    : ", which this broker did not make and does not change",
			    field_text(team, "drift"));
}

static void status_profile_troubles(const struct value *row)
{
	const char *pool = field_text(value_get(row, "pool"), "error");
	char again[2 * WHEN_SIZE] = "";

	if (*pool)
		status_line("error", "%s: its pool is not full: %s", field_text(row, "name"), pool);
	status_drift(row);
	if (!*field_text(row, "error"))
		return;
	if (field_int(row, "retry_at_ms") > cli_now_ms())
		status_when(row, "retry_at_ms", "; next try ", again);
	status_line("error", "%s: %s%s", field_text(row, "name"), field_text(row, "error"), again);
}

/* What needs somebody's attention comes last, where it is seen. */
static void status_troubles(const struct pages_kept *pages)
{
	const struct value *warnings = value_get(pages_kept_at(pages, 0), "warnings");

	for (size_t i = 0; i < pages->n; i++) {
		const struct value *profiles = value_get(pages_kept_at(pages, i), "profiles");

		for (size_t k = 0; k < value_len(profiles); k++)
			status_profile_troubles(value_at(profiles, k));
	}
	for (size_t i = 0; i < value_len(warnings); i++) {
		const char *text = value_text(value_at(warnings, i));

		status_line("warning", "%s", text ? text : "");
	}
}

/* One object, whether there is a `spend` or not. */
static void status_json(const struct pages_kept *pages, const struct pages_kept *spent)
{
	(void)fputc('{', stdout); /* errors show when the stream is flushed */
	pages_kept_json(stdout, pages);
	if (spent->n > 0) {
		(void)fputs(",\"spend\":{", stdout);
		pages_kept_json(stdout, spent);
		(void)fputc('}', stdout);
	}
	(void)fputs("}\n", stdout);
}

static void status_text(const struct pages_kept *pages, const struct pages_kept *spent)
{
	status_broker(pages_kept_at(pages, 0));
	status_profiles(pages);
	if (spent->n > 0)
		spend_print(spent);
	status_troubles(pages);
}

int command_status(struct cli *c)
{
	_cleanup_(pages_kept_deinit) struct pages_kept pages = { 0 }, spent = { 0 };
	int r = pages_keep(c, "status", false, false, &pages);

	if (r != CLI_OK)
		return r;
	if (c->options.spend)
		r = pages_keep(c, "spend", true, true, &spent);
	if (spent.n > 0) { /* how teams differ was found out by that */
		pages_kept_deinit(&pages);
		r = pages_keep(c, "status", false, false, &pages);
		if (r != CLI_OK)
			return r;
	}
	if (c->options.json)
		status_json(&pages, &spent);
	else
		status_text(&pages, &spent);
	return r;
}
