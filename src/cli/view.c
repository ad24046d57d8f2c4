/* The commands that only look: list, whoami, leases. */
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
	int64_t more = field_int(row, "models_more");
	struct table *t = userdata;

	table_cell(t, "%s", field_text(row, "name"));
	table_cell(t, "%s", field_text(row, "mode"));
	if (more > 0)
		table_cell(t, "%s, and %" PRId64 " more", models, more);
	else
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

int command_whoami(struct cli *c)
{
	static const char *const numbers[] = { "uid", "gid", "pid" };
	static const char *const texts[] = { "unit", "user_unit", "exe", "listen" };
	const struct call call = { .method = "whoami" };
	_cleanup_(message_freep) struct message *m = NULL;
	int r = cli_call(c, false, &call, &m);

	if (r != CLI_OK)
		return r;
	const struct value *v = message_result(m);
	if (c->options.json) {
		json_out_line(v);
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
	if (value_get(v, "foreign_pid"))
		field_print(stdout, "foreign_pid", "yes");
	field_print(stdout, "rules", *rules ? rules : "none matches: you may have nothing");
	return CLI_OK;
}
