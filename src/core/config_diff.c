/*
 * Compares two configurations by the table of options, each value as the file would write it, so
 * that a new option is compared without a word here. Secrets are compared, never shown.
 */
#include "core/config_diff.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/secret.h"
#include "core/config.h"
#include "core/option.h"

static bool config_diff_same_option(const struct option *o, const void *before, const void *now)
{
	_cleanup_(freep) char *a = option_show(o, before);
	_cleanup_(freep) char *b = option_show(o, now);

	return a && b ? strcmp(a, b) == 0 : a == b;
}

/* How many of the options of these sections differ. */
static size_t config_diff_options(int first, int last, const void *before, const void *now)
{
	size_t n = 0;

	for (size_t i = 0; i < option_count(); i++) {
		const struct option *o = option_at(i);

		if ((int)o->section >= first && (int)o->section <= last)
			n += !config_diff_same_option(o, before, now);
	}
	return n;
}

static bool config_diff_same_secret(const struct secret *a, const struct secret *b)
{
	return a && b ? secret_equal(a, b) : a == b;
}

static bool config_diff_same_profile(const struct profile *a, const struct profile *b)
{
	return config_diff_options(SECTION_PROFILE, SECTION_TEAM, a, b) == 0 &&
	       config_diff_same_secret(a->static_key, b->static_key);
}

static void config_diff_profiles(const struct config *before, const struct config *now,
				 struct config_diff_counts *ret)
{
	size_t kept = 0;

	for (size_t i = 0; i < now->n_profiles; i++) {
		const struct profile *p = &now->profiles[i];
		const struct profile *old = config_profile(before, p->name);

		kept += old != NULL;
		ret->changed += old && !config_diff_same_profile(old, p);
	}
	ret->added = now->n_profiles - kept;
	ret->removed = before->n_profiles - kept;
}

/* NULL if there is none of that name. */
static const struct rule *config_diff_rule(const struct rule *rules, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(rules[i].name, name) == 0)
			return &rules[i];
	return NULL;
}

struct config_diff_list {
	enum option_section section;
	const struct rule *rules;
	size_t n;
};

/* The first that matches decides, so its place among those that stay is part of a rule. */
static void config_diff_rules(const struct config_diff_list *before,
			      const struct config_diff_list *now, struct config_diff_counts *ret)
{
	const struct rule *last = NULL;
	size_t kept = 0;

	for (size_t i = 0; i < now->n; i++) {
		const struct rule *r = &now->rules[i];
		const struct rule *old = config_diff_rule(before->rules, before->n, r->name);

		if (!old)
			continue;
		kept++;
		ret->changed += (last && old < last) ||
				config_diff_options(now->section, now->section, old, r) != 0;
		last = old;
	}
	ret->added += now->n - kept;
	ret->removed += before->n - kept;
}

void config_diff(const struct config *before, const struct config *now, struct config_diff *ret)
{
	*ret = (struct config_diff){ 0 };
	ret->settings = config_diff_options(SECTION_TOP, SECTION_LIMITS, before, now) +
			!config_diff_same_secret(before->master_key, now->master_key);
	config_diff_profiles(before, now, &ret->profiles);
	config_diff_rules(
		&(struct config_diff_list){ SECTION_RULE, before->rules, before->n_rules },
		&(struct config_diff_list){ SECTION_RULE, now->rules, now->n_rules }, &ret->rules);
	config_diff_rules(
		&(struct config_diff_list){ SECTION_LISTEN, before->listens, before->n_listens },
		&(struct config_diff_list){ SECTION_LISTEN, now->listens, now->n_listens },
		&ret->rules);
}

void config_diff_describe(const struct config *before, const struct config *now, char *ret,
			  size_t size)
{
	struct config_diff diff;
	const struct config_diff_counts *p = &diff.profiles, *r = &diff.rules;

	config_diff(before, now, &diff);
	(void)snprintf(ret, size,
		       "%zu profiles (%zu added, %zu removed, %zu changed), %zu rules (%zu added, "
		       "%zu removed, %zu changed), %zu setting%s changed",
		       now->n_profiles, p->added, p->removed, p->changed, now->n_rules, r->added,
		       r->removed, r->changed, diff.settings, diff.settings == 1 ? "" : "s");
}
