/* The audit for people: `audit read` and `audit follow`. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "cli/command.h"
#include "cli/field.h"
#include "cli/json_out.h"
#include "cli/pages.h"
#include "cli/table.h"
#include "cli/text.h"
#include "cli/when.h"
#include "proto/message.h"

enum {
	AUDIT_ROWS = 50,
	AUDIT_TABLE_ROWS = 1000, /* a longer list is printed as several tables */
	AUDIT_FILTERS = 9,
};

/* The filters of the command line as params; the hash is checked and kept in `hash`. */
static int audit_filters(struct cli *c, struct call_param ret[AUDIT_FILTERS],
			 char hash[TEXT_HASH_SIZE])
{
	const struct options *o = &c->options;
	const struct call_param params[AUDIT_FILTERS] = {
		CALL_PARAM_INT("since_at_ms", o->since_ms),
		CALL_PARAM_INT("until_at_ms", o->until_ms),
		CALL_PARAM_INT("uid", o->uid),
		CALL_PARAM_TEXT("unit", o->unit),
		CALL_PARAM_TEXT("profile", o->profile),
		CALL_PARAM_TEXT("lease", o->lease),
		CALL_PARAM_TEXT("event", o->event),
		CALL_PARAM_TEXT("outcome", o->outcome),
		CALL_PARAM_TEXT("key_hash", o->key_hash ? hash : NULL),
	};

	if (o->key_hash && !text_hash(o->key_hash, TEXT_HASH_SIZE - 1, hash))
		return cli_usage(c, "--key-hash is not the 64 hex digits of a SHA-256");
	memcpy(ret, params, sizeof(params));
	return CLI_OK;
}

static bool audit_is_filtered(const struct options *o)
{
	return o->since_ms >= 0 || o->until_ms >= 0 || o->uid >= 0 || o->unit || o->profile ||
	       o->lease || o->event || o->outcome || o->key_hash;
}

/* What a line says of a row. */
struct audit_cells {
	char when[WHEN_SIZE];
	char peer[48];		/* "uid/pid", or what there is of it */
	const char *unit, *gap; /* borrowed from the row; gap: before or behind a unit */
	char *what; /* lease and detail in one, since most rows have but one of them; owned */
};

static void audit_cells_read(struct audit_cells *cells, const struct value *row)
{
	const char *lease = field_text(row, "lease"), *detail = field_text(row, "detail");
	int64_t at, uid, pid;

	*cells = (struct audit_cells){ 0 };
	if (value_int(value_get(row, "wall_ms"), &at))
		when_local(at, cells->when);
	if (value_int(value_get(row, "uid"), &uid))
		(void)snprintf(cells->peer, sizeof(cells->peer), "%" PRId64, uid);
	if (cells->peer[0] && value_int(value_get(row, "pid"), &pid))
		(void)snprintf(cells->peer, sizeof(cells->peer), "%" PRId64 "/%" PRId64, uid, pid);
	cells->unit = field_text(row, "unit");
	cells->gap = *cells->unit ? " " : "";
	cells->what = xasprintf("%s%s%s", lease, *lease && *detail ? ", " : "", detail);
}

/* --- audit read --- */

static const char *const audit_titles[] = { ">SEQ",    "TIME",	  "EVENT",	   "OUTCOME",
					    "PROFILE", "UID/PID", "LEASE, DETAIL", NULL };

struct audit_tables {
	struct table *table; /* owned */
	size_t printed;
};

static void audit_tables_flush(struct audit_tables *t)
{
	if (table_n_rows(t->table) > 0)
		table_print(t->table, stdout, table_width(STDOUT_FILENO));
	t->printed += table_n_rows(t->table);
	table_free(t->table);
	t->table = table_new(audit_titles);
}

static void audit_tables_row(void *userdata, const struct value *row)
{
	struct audit_tables *t = userdata;
	struct audit_cells cells;

	audit_cells_read(&cells, row);
	table_cell(t->table, "%" PRId64, field_int(row, "sequence"));
	table_cell(t->table, "%s", cells.when);
	table_cell(t->table, "%s", field_text(row, "event"));
	table_cell(t->table, "%s", field_text(row, "outcome"));
	table_cell(t->table, "%s", field_text(row, "profile"));
	table_cell(t->table, "%s%s%s", cells.peer, cells.gap, cells.unit);
	table_cell(t->table, "%s", cells.what);
	table_end_row(t->table);
	free(cells.what);
	if (table_n_rows(t->table) >= AUDIT_TABLE_ROWS)
		audit_tables_flush(t);
}

static int audit_read_pages(struct cli *c, struct pages *p)
{
	struct audit_tables t = { .table = table_new(audit_titles) };
	int r;

	p->row = audit_tables_row;
	p->userdata = &t;
	r = pages_read(c, p);
	if (!c->options.json)
		audit_tables_flush(&t); /* also what came before an error */
	if (r == CLI_OK && !c->options.json && t.printed == 0)
		cli_notice(c, "there are no such rows");
	table_free(t.table);
	return r;
}

/* The sequence number before the last `rows` rows. */
static int audit_latest(struct cli *c, int64_t rows, int64_t *ret_after)
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
	bool all = audit_is_filtered(&c->options);
	struct call_param filters[AUDIT_FILTERS];
	char hash[TEXT_HASH_SIZE];
	struct pages p = { .method = "audit_read",
			   .list = "rows",
			   .admin = true,
			   .by_number = true,
			   .after = c->options.after,
			   .limit = c->options.limit,
			   .params = filters,
			   .n_params = AUDIT_FILTERS };
	int r = audit_filters(c, filters, hash);

	if (p.limit < 0 && !all)
		p.limit = AUDIT_ROWS;
	if (r == CLI_OK && p.after < 0 && !all)
		r = audit_latest(c, p.limit, &p.after);
	p.after = MAX_OF(p.after, 0);
	return r == CLI_OK ? audit_read_pages(c, &p) : r;
}

/* --- audit follow --- */

/* Widths that fit nearly all rows: a line must not wait for those after it. */
#define AUDIT_LINE "%8s  %-19s  %-12s  %-7s  %-12s  %-14s  %s%s%s\n"

static void audit_line_print(const struct value *row)
{
	struct audit_cells cells;
	char sequence[24];

	audit_cells_read(&cells, row);
	(void)snprintf(sequence, sizeof(sequence), "%" PRId64, field_int(row, "sequence"));
	_cleanup_(freep) char *line =
		xasprintf(AUDIT_LINE, sequence, cells.when, field_text(row, "event"),
			  field_text(row, "outcome"), field_text(row, "profile"), cells.peer,
			  cells.unit, cells.gap, cells.what);
	free(cells.what);
	line[strlen(line) - 1] = '\0'; /* its end is no control character of others */
	_cleanup_(freep) char *clean = text_clean(line);
	puts(clean);
}

/* False: stdout cannot be written any more. */
static bool audit_follow_print(const struct cli *c, const struct value *row)
{
	if (c->options.json) {
		json_out_line(row);
	} else {
		audit_line_print(row);
	}
	return fflush(stdout) == 0; /* somebody is waiting for this line */
}

/* All rows until the connection or stdout ends; `after` follows along. */
static enum keybroker_code audit_follow_rows(const struct cli *c, struct keybroker *k,
					     int64_t *after, struct keybroker_error *e)
{
	for (;;) {
		_cleanup_(message_freep) struct message *m = NULL;
		enum keybroker_code code = keybroker_listen(k, "audit", &m, e);

		if (code != KEYBROKER_OK || !audit_follow_print(c, message_params(m)))
			return code;
		*after = field_int(message_params(m), "sequence");
	}
}

static int audit_follow(const struct cli *c, struct keybroker *k, struct call_param *params,
			size_t n_params)
{
	const struct call call = { .method = "audit_follow",
				   .params = params,
				   .n_params = n_params };
	int64_t *after = &params[n_params - 1].number;
	struct keybroker_error e;

	for (;;) {
		_cleanup_(message_freep) struct message *m = NULL;
		enum keybroker_code code = keybroker_call(k, &call, &m, &e);

		if (code == KEYBROKER_OK) {
			*after = field_int(message_result(m), "after");
			code = audit_follow_rows(c, k, after, &e);
		}
		if (code == KEYBROKER_OK)
			return CLI_OK; /* cli_main() says what is wrong with stdout */
		if (code != KEYBROKER_LOST)
			return cli_report(c, &e);
		cli_notice(c, "%s; going on after row %" PRId64 " as soon as a broker is there",
			   e.message, *after);
	}
}

static void audit_on_interrupt(_unused_ int number)
{
	_exit(130);
}

int command_audit_follow(struct cli *c)
{
	_cleanup_(keybroker_closep) struct keybroker *k = NULL;
	const struct options *o = &c->options;
	struct call_param params[AUDIT_FILTERS + 1];
	char hash[TEXT_HASH_SIZE];
	int r = audit_filters(c, params, hash);

	/* rows since some time are rows that are there already */
	params[AUDIT_FILTERS] =
		CALL_PARAM_INT("after", o->after < 0 && o->since_ms >= 0 ? 0 : o->after);
	r = r == CLI_OK ? cli_connect(c, true, &k) : r;
	if (r != CLI_OK)
		return r;
	(void)signal(SIGINT, audit_on_interrupt); /* each line is out: nothing is lost */
	if (!o->json)
		printf(AUDIT_LINE, "SEQ", "TIME", "EVENT", "OUTCOME", "PROFILE", "UID/PID", "UNIT",
		       " ", "LEASE, DETAIL");
	return fflush(stdout) == 0 ? audit_follow(c, k, params, ARRAY_SIZE(params)) : CLI_OK;
}
