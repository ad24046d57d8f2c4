/* The commands that only look: list, whoami, leases, audit read. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "cli/command.h"
#include "cli/field.h"
#include "cli/json_out.h"
#include "cli/pages.h"
#include "cli/table.h"
#include "cli/when.h"
#include "proto/message.h"

enum { VIEW_AUDIT_ROWS = 50 };

/* Reads all pages into a table and prints it; `none` is what is said on stderr if it stays empty.
 */
static int view_table(struct cli *c, struct pages *p, const char *const titles[], const char *none)
{
	_cleanup_(table_freep) struct table *t = table_new(titles);

	p->userdata = t;
	int r = pages_read(c, p);
	if (r != CLI_OK || c->options.json)
		return r;
	if (table_n_rows(t) > 0)
		table_print(t, stdout, table_width(STDOUT_FILENO));
	else
		cli_notice(c, "%s", none);
	return CLI_OK;
}

static void view_profile(void *userdata, const struct value *row)
{
	_cleanup_(freep) char *models = field_join(value_get(row, "models"));
	struct table *t = userdata;

	table_cell(t, "%s", field_text(row, "name"));
	table_cell(t, "%s", field_text(row, "mode"));
	table_cell(t, "%s", models);
	table_cell(t, "%s", field_text(row, "rule"));
	table_cell(t, "%s", field_text(row, "base_url"));
	table_end_row(t);
}

int command_list(struct cli *c)
{
	static const char *const titles[] = {
		"PROFILE", "MODE", "MODELS", "RULE", "BASE URL", NULL
	};
	struct pages p = { .method = "list", .list = "profiles", .limit = -1, .row = view_profile };

	return view_table(c, &p, titles, "you may have none of the broker's profiles");
}

static void view_lease(void *userdata, const struct value *row)
{
	char ends[WHEN_SIZE] = "", granted[WHEN_SIZE] = "";
	int64_t now = cli_now_ms(), at;
	struct table *t = userdata;

	if (value_int(value_get(row, "ends_at_ms"), &at))
		when_relative(at, now, ends);
	if (value_int(value_get(row, "granted_at_ms"), &at))
		when_relative(at, now, granted);
	table_cell(t, "%s", field_text(row, "lease"));
	table_cell(t, "%s", field_text(row, "profile"));
	table_cell(t, "%s%s", field_text(row, "bind"),
		   value_bool(value_get(row, "refreshable"), true) ? "" : ", fixed");
	table_cell(t, "%" PRId64, field_int(row, "uid"));
	table_cell(t, "%" PRId64, field_int(row, "pid"));
	table_cell(t, "%s", field_text(row, "rule"));
	table_cell(t, "%" PRId64, field_int(row, "generation"));
	table_cell(t, "%s", field_text(row, "key_hash"));
	table_cell(t, "%s", granted);
	table_cell(t, "%s", ends);
	table_end_row(t);
}

int command_leases(struct cli *c)
{
	static const char *const titles[] = { "LEASE",	 "PROFILE", "BOUND TO", ">UID",
					      ">PID",	 "RULE",    ">GEN",	"KEY",
					      "GRANTED", "ENDS",    NULL };
	struct pages p = {
		.method = "leases", .list = "leases", .admin = true, .limit = -1, .row = view_lease
	};

	return view_table(c, &p, titles, "nobody holds a key");
}

/* "uid 1000 pid 4711", or what there is of it. */
static void view_peer_cell(struct table *t, const struct value *row)
{
	int64_t uid, pid;

	if (!value_int(value_get(row, "uid"), &uid))
		table_cell(t, "%s", "");
	else if (!value_int(value_get(row, "pid"), &pid))
		table_cell(t, "%" PRId64, uid);
	else
		table_cell(t, "%" PRId64 "/%" PRId64, uid, pid);
}

static void view_audit_row(void *userdata, const struct value *row)
{
	char when[WHEN_SIZE] = "";
	int64_t at;
	struct table *t = userdata;

	if (value_int(value_get(row, "wall_ms"), &at))
		when_local(at, when);
	table_cell(t, "%" PRId64, field_int(row, "sequence"));
	table_cell(t, "%s", when);
	table_cell(t, "%s", field_text(row, "event"));
	table_cell(t, "%s", field_text(row, "outcome"));
	table_cell(t, "%s", field_text(row, "profile"));
	view_peer_cell(t, row);
	/* one column for both, since most rows have but one of them */
	const char *lease = field_text(row, "lease"), *detail = field_text(row, "detail");
	table_cell(t, "%s%s%s", lease, *lease && *detail ? ", " : "", detail);
	table_end_row(t);
}

/* The sequence number before the last `rows` rows. */
static int view_latest(struct cli *c, int64_t rows, int64_t *ret_after)
{
	const struct call call = { .method = "status" };
	_cleanup_(message_freep) struct message *m = NULL;
	int r = cli_call(c, true, &call, &m);

	if (r != CLI_OK)
		return r;
	int64_t last = field_int(value_get(message_result(m), "audit"), "sequence");
	*ret_after = MAX_OF(last - rows, 0);
	return CLI_OK;
}

int command_audit_read(struct cli *c)
{
	static const char *const titles[] = { ">SEQ",	 "TIME",    "EVENT",	     "OUTCOME",
					      "PROFILE", "UID/PID", "LEASE, DETAIL", NULL };
	struct pages p = { .method = "audit_read",
			   .list = "rows",
			   .admin = true,
			   .by_number = true,
			   .after = c->options.after,
			   .limit = c->options.limit < 0 ? VIEW_AUDIT_ROWS : c->options.limit,
			   .row = view_audit_row };
	int r = p.after < 0 ? view_latest(c, p.limit, &p.after) : CLI_OK;

	return r == CLI_OK ? view_table(c, &p, titles, "there are no such rows") : r;
}

int command_whoami(struct cli *c)
{
	static const char *const numbers[] = { "uid", "gid", "pid" };
	static const char *const texts[] = { "unit", "exe" };
	const struct call call = { .method = "whoami" };
	_cleanup_(message_freep) struct message *m = NULL;
	int r = cli_call(c, false, &call, &m);

	if (r != CLI_OK)
		return r;
	const struct value *v = message_result(m);
	if (c->options.json) {
		json_out(stdout, v);
		putchar('\n');
		return CLI_OK;
	}
	_cleanup_(freep) char *groups = field_join(value_get(v, "groups"));
	_cleanup_(freep) char *rules = field_join(value_get(v, "rules"));
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		printf("%-7s %" PRId64 "\n", numbers[i], field_int(v, numbers[i]));
	if (*groups)
		field_print(stdout, "groups", groups);
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (*field_text(v, texts[i]))
			field_print(stdout, texts[i], field_text(v, texts[i]));
	field_print(stdout, "rules", *rules ? rules : "none matches: you may have nothing");
	return CLI_OK;
}
