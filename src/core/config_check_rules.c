/*
 * The rules as a whole: what names nobody in particular, contradicts itself, leads nowhere or is
 * never reached. A rule that cannot work is an error, since whoever wrote it meant something by it.
 */
#include <string.h>

#include "base/macros.h"
#include "core/cgroup.h"
#include "core/config_build.h"
#include "core/option.h"
#include "core/policy.h"

static const char *config_rule_origin(const struct rule *r, const char *name)
{
	const struct option *o = option_find(r->path ? SECTION_LISTEN : SECTION_RULE, name);

	return option_was_set(o, r) ? option_origin(o, r) : r->origin.text;
}

static const char *config_rule_kind(const struct rule *r)
{
	return r->path ? "listen" : "rule";
}

/* What a rule and a listen section have in common. */
static void config_check_grant(const struct config *c, const struct rule *r,
			       struct config_report *report)
{
	if (r->n_profiles == 0)
		config_report_error(report, r->origin.text,
				    "%s \"%s\" needs profiles, for example { \"*\" }",
				    config_rule_kind(r), r->name);
	for (size_t i = 0; i < r->n_profiles; i++)
		if (!policy_is_glob(r->profiles[i]) && !config_profile(c, r->profiles[i]))
			config_report_error(report, config_rule_origin(r, "profiles"),
					    "%s \"%s\" names the unknown profile \"%s\"",
					    config_rule_kind(r), r->name, r->profiles[i]);
	config_check_base_url(c, r->base_url, config_rule_origin(r, "base_url"), report);
}

/* "web" is none, and a rule that waits for it never matches. */
static void config_check_unit(const struct rule *r, const char *name, const char *unit,
			      struct config_report *report)
{
	if (unit && !policy_is_glob(unit) && !cgroup_is_unit(unit))
		config_report_error(report, config_rule_origin(r, name),
				    "rule \"%s\": \"%s\" is no unit that processes run in: its "
				    "name ends in .service, .scope, .socket, .mount or .swap",
				    r->name, unit);
}

static void config_check_rule(const struct rule *r, struct config_report *report)
{
	bool narrows = r->user_unit || r->exe;

	if (!r->has_uid && !r->has_gid && !r->unit)
		config_report_error(report, r->origin.text,
				    "rule \"%s\" must name a user, uid, group or unit%s", r->name,
				    narrows ? ": any user can run that program, or name a unit of "
					      "his own so"
					    : "");
	if (r->foreign_pid && (r->unit || narrows))
		config_report_error(report, config_rule_origin(r, "foreign_pid"),
				    "rule \"%s\": of a process in a foreign pid namespace only uid "
				    "and group are known: give it a rule without unit, user_unit "
				    "and exe",
				    r->name);
	config_check_unit(r, "unit", r->unit, report);
	config_check_unit(r, "user_unit", r->user_unit, report);
}

/* --- rules that are never reached --- */

/* Does whatever `narrow` matches also match `wide`? NULL is anything. */
static bool config_glob_covers(const char *wide, const char *narrow)
{
	if (!wide)
		return true;
	if (!narrow)
		return false;
	if (strcmp(wide, narrow) == 0 || strcmp(wide, "*") == 0)
		return true;
	/* what a glob's * or ? stands for is part of what one of wide's * does, unless a ? or [ of
	 * wide or a [ of its own says otherwise */
	if (policy_is_glob(narrow) && (strpbrk(wide, "?[") || strchr(narrow, '[')))
		return false;
	return policy_glob_matches(wide, narrow);
}

/* Does each peer that matches `narrow` match `wide` too? */
static bool config_rule_covers(const struct rule *wide, const struct rule *narrow)
{
	if (wide->has_uid && !(narrow->has_uid && narrow->uid == wide->uid))
		return false;
	if (wide->has_gid && !(narrow->has_gid && narrow->gid == wide->gid))
		return false;
	if (wide->exe && !(narrow->exe && strcmp(wide->exe, narrow->exe) == 0))
		return false;
	if (narrow->foreign_pid && !wide->foreign_pid)
		return false;
	return config_glob_covers(wide->unit, narrow->unit) &&
	       config_glob_covers(wide->user_unit, narrow->user_unit);
}

/* The first rule before r that decides for all that r matches, with this profile; or NULL. */
static const struct rule *config_rule_before(const struct config *c, const struct rule *r,
					     const char *profile)
{
	for (const struct rule *before = c->rules; before < r; before++)
		if (policy_rule_names(before, profile) && config_rule_covers(before, r))
			return before;
	return NULL;
}

static void config_check_reached(const struct config *c, const struct rule *r,
				 struct config_report *report)
{
	const struct rule *before = NULL;

	for (size_t i = 0; i < c->n_profiles; i++) {
		if (!policy_rule_names(r, c->profiles[i].name))
			continue;
		before = config_rule_before(c, r, c->profiles[i].name);
		if (!before)
			return;
	}
	if (before)
		config_report_error(report, r->origin.text,
				    "rule \"%s\" is never reached: rule \"%s\" at %s comes first "
				    "and matches the same; put the narrower rule first, or take "
				    "it out",
				    r->name, before->name, before->origin.text);
}

/* --- listen sections --- */

static void config_check_listen(const struct config *c, const struct rule *r,
				struct config_report *report)
{
	const char *path = r->path, *taken = NULL;

	if (strlen(path) > CONFIG_SOCKET_MAX)
		config_report_error(report, config_rule_origin(r, "path"),
				    "listen \"%s\": the path of a socket has at most %d bytes",
				    r->name, CONFIG_SOCKET_MAX);
	if ((c->socket_path && strcmp(path, c->socket_path) == 0) ||
	    (c->admin_socket_path && strcmp(path, c->admin_socket_path) == 0))
		taken = "the broker's own socket";
	for (const struct rule *other = c->listens; other < r; other++)
		if (other->path && strcmp(path, other->path) == 0)
			taken = other->name;
	if (taken)
		config_report_error(report, config_rule_origin(r, "path"),
				    "listen \"%s\": %s has this path already", r->name, taken);
}

void config_validate_rules(const struct config *c, struct config_report *report)
{
	for (size_t i = 0; i < c->n_rules; i++) {
		config_check_grant(c, &c->rules[i], report);
		config_check_rule(&c->rules[i], report);
		config_check_reached(c, &c->rules[i], report);
	}
	for (size_t i = 0; i < c->n_listens; i++) {
		if (!c->listens[i].path) {
			config_report_error(report, c->listens[i].origin.text,
					    "listen \"%s\" needs a path", c->listens[i].name);
			continue;
		}
		config_check_grant(c, &c->listens[i], report);
		config_check_listen(c, &c->listens[i], report);
	}
	if (c->n_listens > LISTENS_MAX)
		config_report_error(report, c->listens[LISTENS_MAX].origin.text,
				    "there are at most %d listen sections", LISTENS_MAX);
}

/* --- warnings --- */

static void config_judge_globs(struct config *c, const struct rule *r)
{
	for (size_t i = 0; i < r->n_profiles; i++) {
		bool found = false;

		for (size_t j = 0; j < c->n_profiles; j++)
			found = found || policy_glob_matches(r->profiles[i], c->profiles[j].name);
		if (!found)
			config_add_warning(c, "%s: %s \"%s\": no profile matches \"%s\" today",
					   config_rule_origin(r, "profiles"), config_rule_kind(r),
					   r->name, r->profiles[i]);
	}
}

static void config_judge_rule(struct config *c, const struct rule *r)
{
	const struct peer nobody = { .uid = r->uid, .gid = r->gid, .pid = 1 };

	config_judge_globs(c, r);
	if (r->has_uid && policy_rule_miss(r, &nobody, "") == POLICY_NOBODY)
		config_add_warning(c,
				   "%s: rule \"%s\" never matches: uid %u is whoever the kernel "
				   "cannot name, and gets nothing",
				   r->origin.text, r->name, r->uid);
	config_judge_base_url(c, r->base_url, config_rule_origin(r, "base_url"));
}

void config_judge_rules(struct config *c)
{
	for (size_t i = 0; i < c->n_rules; i++)
		config_judge_rule(c, &c->rules[i]);
	for (size_t i = 0; i < c->n_listens; i++)
		config_judge_rule(c, &c->listens[i]);
	if (c->n_rules + c->n_listens == 0)
		config_add_warning(c,
				   "there is no rule, so nobody may have a key: add rule \"…\" { "
				   "group = …  profiles = { \"*\" } }");
}
