/* `explain`: which rule decides about a profile, for oneself or, for administrators, for anybody.
 */
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "cli/command.h"
#include "cli/field.h"
#include "cli/json_out.h"
#include "cli/table.h"
#include "proto/message.h"

enum { EXPLAIN_GROUPS_MAX = 256, EXPLAIN_TEXTS = 4, EXPLAIN_PARAMS = EXPLAIN_TEXTS + 7 };

/* A peer that --as describes. Ids are < 0 where nothing was said. */
struct explain_as {
	int64_t uid, gid;
	int64_t groups[EXPLAIN_GROUPS_MAX];
	size_t n_groups;
	const char *texts[EXPLAIN_TEXTS]; /* of explain_texts */
	bool foreign_pid;
};

static const char *const explain_texts[EXPLAIN_TEXTS] = { "unit", "user_unit", "exe", "listen" };

static int64_t explain_number(const char *text)
{
	char *end;
	long long n = strtoll(text, &end, 10);

	return *text >= '0' && *text <= '9' && !*end && n < UINT32_MAX ? n : -1;
}

/* The groups that the user database gives; those of a process may be others. */
static void explain_take_user(struct explain_as *as, const struct passwd *pw)
{
	gid_t groups[EXPLAIN_GROUPS_MAX];
	int n = EXPLAIN_GROUPS_MAX;

	as->uid = pw->pw_uid;
	as->gid = pw->pw_gid;
	(void)getgrouplist(pw->pw_name, pw->pw_gid, groups, &n); /* of more, the first ones */
	as->n_groups = (size_t)MIN_OF(n, (int)EXPLAIN_GROUPS_MAX);
	for (size_t i = 0; i < as->n_groups; i++)
		as->groups[i] = groups[i];
}

static bool explain_take_id(struct explain_as *as, const char *name, const char *value)
{
	int64_t id = explain_number(value);
	const struct passwd *pw = NULL;
	const struct group *gr = NULL;

	if (strcmp(name, "uid") == 0 || strcmp(name, "user") == 0) {
		pw = id >= 0 ? getpwuid((uid_t)id) : getpwnam(value);
		if (pw)
			explain_take_user(as, pw);
		else
			as->uid = id;
		return as->uid >= 0;
	}
	gr = id >= 0 ? NULL : getgrnam(value);
	id = gr ? gr->gr_gid : id;
	if (strcmp(name, "gid") == 0)
		as->gid = id;
	else if (as->n_groups < EXPLAIN_GROUPS_MAX)
		as->groups[as->n_groups++] = id;
	return id >= 0;
}

/* One NAME=VALUE. False: it is none of those there are, or the user or group is unknown. */
static bool explain_take(struct explain_as *as, const char *name, const char *value)
{
	static const char *const ids[] = { "uid", "user", "gid", "group" };

	for (size_t i = 0; i < EXPLAIN_TEXTS; i++)
		if (strcmp(name, explain_texts[i]) == 0) {
			as->texts[i] = value;
			return true;
		}
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		if (strcmp(name, ids[i]) == 0)
			return explain_take_id(as, name, value);
	as->foreign_pid = strcmp(value, "yes") == 0;
	return strcmp(name, "foreign_pid") == 0;
}

/* `text` is cut up. CLI_OK, or the exit code after having said why. */
static int explain_parse(const struct cli *c, char *text, struct explain_as *as)
{
	*as = (struct explain_as){ .uid = -1, .gid = -1 };
	for (char *item; (item = strsep(&text, ","));) {
		char *value = strchr(item, '=');

		if (!value)
			return cli_usage(c, "--as: \"%s\" is not NAME=VALUE", item);
		*value++ = '\0';
		if (!explain_take(as, item, value))
			return cli_usage(c,
					 "--as: %s=%s: there are uid, user, gid, group, unit, "
					 "user_unit, exe, listen and foreign_pid=yes; users and "
					 "groups must exist, or be numbers",
					 item, value);
	}
	return as->uid >= 0 ? CLI_OK : cli_usage(c, "--as needs uid=… or user=…");
}

static size_t explain_params(const struct explain_as *as, struct call_param *to)
{
	size_t n = 0;

	for (size_t i = 0; i < EXPLAIN_TEXTS; i++)
		to[n++] = CALL_PARAM_TEXT(explain_texts[i], as->texts[i]);
	to[n++] = CALL_PARAM_INT("uid", as->uid);
	to[n++] = CALL_PARAM_INT("gid", as->gid);
	to[n++] = CALL_PARAM_INTS("groups", as->groups, as->n_groups);
	to[n++] = CALL_PARAM_BOOL("foreign_pid", as->foreign_pid);
	return n;
}

/* --- what comes of it --- */

static void explain_head(const struct value *v)
{
	static const char *const numbers[] = { "uid", "gid", "pid" };
	const struct value *sees = value_get(v, "sees");
	_cleanup_(freep) char *groups = field_join(value_get(sees, "groups"));
	bool allowed = value_bool(value_get(v, "allowed"), false);
	_cleanup_(freep) char *verdict =
		allowed ? xasprintf("yes, by rule %s", field_text(v, "rule"))
			: xstrdup("no: no rule allows it");

	field_print(stdout, "profile", field_text(v, "profile"));
	field_print(stdout, "allowed", verdict);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (value_get(sees, numbers[i]))
			printf("%-7s %" PRId64 "\n", numbers[i], field_int(sees, numbers[i]));
	if (*groups)
		field_print(stdout, "groups", groups);
	for (size_t i = 0; i < EXPLAIN_TEXTS; i++)
		if (*field_text(sees, explain_texts[i]))
			field_print(stdout, explain_texts[i], field_text(sees, explain_texts[i]));
	if (value_get(sees, "foreign_pid"))
		field_print(stdout, "foreign_pid", "yes");
}

static void explain_rows(struct table *t, const struct value *rules)
{
	for (size_t i = 0; i < value_len(rules); i++) {
		const struct value *row = value_at(rules, i);
		bool decides = value_bool(value_get(row, "decides"), false);

		table_cell(t, "%s", field_text(row, "rule"));
		table_cell(t, "%s", decides ? "this rule decides" : field_text(row, "why"));
		table_end_row(t);
	}
}

/* One page; the first one's head is printed. With --json each page is a line. */
static void explain_show(const struct cli *c, const struct value *v, bool first, struct table *t)
{
	if (c->options.json)
		json_out_line(v);
	else if (first)
		explain_head(v);
	explain_rows(t, value_get(v, "rules"));
}

static int explain_ask(const struct cli *c, bool admin, struct call_param *params, size_t n)
{
	static const char *const titles[] = { "RULE", "", NULL };
	_cleanup_(table_freep) struct table *t = table_new(titles);
	const struct call call = { "explain", params, n + 1, false, false };
	bool allowed = false, more = true;
	int64_t next = 0;

	for (bool first = true; more; first = false) {
		_cleanup_(message_freep) struct message *m = NULL;
		int64_t before = next;
		int r;

		params[n] = CALL_PARAM_INT("after", next);
		r = cli_call(c, admin, &call, &m);
		if (r != CLI_OK)
			return r;
		allowed = value_bool(value_get(message_result(m), "allowed"), false);
		explain_show(c, message_result(m), first, t);
		more = value_int(value_get(message_result(m), "next"), &next) && next > before;
	}
	if (!c->options.json && table_n_rows(t) > 0)
		table_print(t, stdout, table_width(STDOUT_FILENO));
	return allowed ? CLI_OK : CLI_DENIED;
}

int command_explain(struct cli *c)
{
	_cleanup_(freep) char *text = c->options.as ? xstrdup(c->options.as) : NULL;
	struct call_param params[EXPLAIN_PARAMS] = {
		CALL_PARAM_TEXT("profile", c->n_operands ? c->operands[0] : "service"),
	};
	struct explain_as as;
	size_t n = 1;

	if (text) {
		int r = explain_parse(c, text, &as);

		if (r != CLI_OK)
			return r;
		n += explain_params(&as, params + n);
	}
	return explain_ask(c, text != NULL, params, n);
}
