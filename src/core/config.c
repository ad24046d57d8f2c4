/* The configuration as a value: making, looking up, freeing. config_check.c judges it. */
#include "core/config.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/secret.h"
#include "core/config_build.h"
#include "core/option.h"
#include "core/url.h"

#define CONFIG_PROVIDER_URL "https://api.openai.com/v1" /* of a static profile that names none */
#define CONFIG_DEDICATED_DURATION "30d"

const char *profile_mode_name(enum profile_mode mode)
{
	switch (mode) {
	case PROFILE_SHARED:
		return "shared";
	case PROFILE_DEDICATED:
		return "dedicated";
	case PROFILE_STATIC:
		return "static";
	}
	return "unknown";
}

void config_report_error(struct config_report *report, const char *origin, const char *fmt, ...)
{
	char message[1024];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(message, sizeof(message), fmt, ap); /* a long value may be cut */
	va_end(ap);
	report->n_errors++;
	report->error(report->userdata, origin, message);
}

struct config *config_new(void)
{
	struct config *c = xcalloc(1, sizeof(*c));

	c->timing = timing_default;
	for (int section = SECTION_TOP; section <= SECTION_LIMITS; section++)
		option_set_defaults((enum option_section)section, c);
	return c;
}

static bool config_is_name(const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				"0123456789._-");

	return n > 0 && n < PROFILE_NAME_MAX && name[n] == '\0';
}

static bool config_take_name(const char *name, const char *origin, struct config_report *report)
{
	if (!config_is_name(name))
		config_report_error(report, origin,
				    "the name \"%s\" must be 1 to %d of A-Z a-z 0-9 . _ -", name,
				    PROFILE_NAME_MAX - 1);
	return config_is_name(name);
}

struct profile *config_add_profile(struct config *c, const char *name, const char *origin,
				   struct config_report *report)
{
	struct profile *p;

	if (!config_take_name(name, origin, report))
		return NULL;
	c->profiles = xrealloc(c->profiles, c->n_profiles + 1, sizeof(*c->profiles));
	p = &c->profiles[c->n_profiles++];
	memset(p, 0, sizeof(*p));
	(void)snprintf(p->name, sizeof(p->name), "%s", name);
	(void)snprintf(p->origin.text, sizeof(p->origin.text), "%s",
		       origin); /* a path may be cut */
	option_set_defaults(SECTION_PROFILE, p);
	option_set_defaults(SECTION_KEY, p);
	option_set_defaults(SECTION_TEAM, p);
	return p;
}

static struct rule *config_grow_rules(struct rule **rules, size_t *n, const char *name,
				      const char *origin, enum option_section section)
{
	struct rule *r;

	*rules = xrealloc(*rules, *n + 1, sizeof(**rules));
	r = &(*rules)[(*n)++];
	memset(r, 0, sizeof(*r));
	(void)snprintf(r->name, sizeof(r->name), "%s", name);
	(void)snprintf(r->origin.text, sizeof(r->origin.text), "%s",
		       origin); /* a path may be cut */
	option_set_defaults(SECTION_RULE, r);
	option_set_defaults(section, r);
	return r;
}

struct rule *config_add_rule(struct config *c, const char *name, const char *origin,
			     struct config_report *report)
{
	return config_take_name(name, origin, report)
		       ? config_grow_rules(&c->rules, &c->n_rules, name, origin, SECTION_RULE)
		       : NULL;
}

struct rule *config_add_listen(struct config *c, const char *name, const char *origin,
			       struct config_report *report)
{
	return config_take_name(name, origin, report)
		       ? config_grow_rules(&c->listens, &c->n_listens, name, origin, SECTION_LISTEN)
		       : NULL;
}

struct profile *config_profile_to_change(struct config *c, const char *name)
{
	for (size_t i = 0; i < c->n_profiles; i++)
		if (strcmp(c->profiles[i].name, name) == 0)
			return &c->profiles[i];
	return NULL;
}

struct rule *config_rule_to_change(struct config *c, const char *name)
{
	for (size_t i = 0; i < c->n_rules; i++)
		if (strcmp(c->rules[i].name, name) == 0)
			return &c->rules[i];
	for (size_t i = 0; i < c->n_listens; i++)
		if (strcmp(c->listens[i].name, name) == 0)
			return &c->listens[i];
	return NULL;
}

void config_add_warning(struct config *c, const char *fmt, ...)
{
	char message[1024];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(message, sizeof(message), fmt, ap); /* a long value may be cut */
	va_end(ap);
	c->warnings = xrealloc(c->warnings, c->n_warnings + 1, sizeof(*c->warnings));
	c->warnings[c->n_warnings++] = xstrdup(message);
}

static void config_finish_profile(struct profile *p)
{
	if (!p->alias && p->mode != PROFILE_STATIC)
		p->alias = xstrdup(p->mode == PROFILE_SHARED ? "%{profile}" : "%{profile}-%{pid}");
	if (!p->duration && p->mode == PROFILE_DEDICATED) {
		p->duration = xstrdup(CONFIG_DEDICATED_DURATION);
		p->duration_ms = 30 * INT64_C(86400000);
	}
}

void config_finish_profiles(struct config *c)
{
	for (size_t i = 0; i < c->n_profiles; i++)
		config_finish_profile(&c->profiles[i]);
}

static void config_free_profiles(struct config *c)
{
	for (size_t i = 0; i < c->n_profiles; i++) {
		struct profile *p = &c->profiles[i];

		option_clear_section(SECTION_PROFILE, p);
		option_clear_section(SECTION_KEY, p);
		option_clear_section(SECTION_TEAM, p);
		option_clear_origins(&p->origins);
		secret_free(p->static_key);
	}
	free(c->profiles);
}

static void config_free_rules(struct rule *rules, size_t n, enum option_section section)
{
	for (size_t i = 0; i < n; i++) {
		option_clear_section(section, &rules[i]);
		option_clear_origins(&rules[i].origins);
	}
	free(rules);
}

void config_free(struct config *c)
{
	if (!c)
		return;
	config_free_profiles(c);
	config_free_rules(c->rules, c->n_rules, SECTION_RULE);
	config_free_rules(c->listens, c->n_listens, SECTION_LISTEN);
	for (int section = SECTION_TOP; section <= SECTION_LIMITS; section++)
		option_clear_section((enum option_section)section, c);
	option_clear_origins(&c->origins);
	for (size_t i = 0; i < c->n_warnings; i++)
		free(c->warnings[i]);
	free(c->warnings);
	secret_free(c->master_key);
	free(c->instance);
	free(c);
}

const struct profile *config_profile(const struct config *c, const char *name)
{
	for (size_t i = 0; i < c->n_profiles; i++)
		if (strcmp(c->profiles[i].name, name) == 0)
			return &c->profiles[i];
	return NULL;
}

char *config_base_url(const struct config *c, const struct profile *p, const struct rule *r)
{
	if (p->mode == PROFILE_STATIC)
		return xstrdup(p->base_url ? p->base_url : CONFIG_PROVIDER_URL);
	if (r && r->base_url)
		return xstrdup(r->base_url);
	if (p->base_url)
		return xstrdup(p->base_url);
	if (c->openai_base_url || !c->upstream_url)
		return xstrdup(c->openai_base_url);
	return xasprintf("%s/v1", c->upstream_url);
}
