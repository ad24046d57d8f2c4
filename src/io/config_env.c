/*
 * The environment that LiteLLM's users know, by the variables in the table of options. Empty counts
 * as unset. Secrets are kept as such and never shown.
 */
#include "io/config_env.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/env.h"
#include "base/err.h"
#include "base/secret.h"
#include "core/config_build.h"
#include "core/option.h"

#define CONFIG_ENV_MASTER_KEY "LITELLM_MASTER_KEY"
#define CONFIG_ENV_PROVIDER_KEY "OPENAI_API_KEY"
#define CONFIG_ENV_CLIENTS "keybroker-clients"

struct config_env {
	struct secret *master_key, *provider_key;
	bool stale_ms;
	/* one a row of the table: what env[0] and env[1] of it held, or NULL */
	char *(*values)[2];
};

/* The profiles that exist without a file; their index is that of the variables in a row. */
static const struct {
	const char *name;
	enum profile_mode mode;
} config_env_profiles[2] = { { "service", PROFILE_SHARED }, { "process", PROFILE_DEDICATED } };

static int config_env_take_secret(const char *variable, struct secret **ret)
{
	const char *value = getenv(variable);

	if (!value || !*value)
		return 0;
	*ret = secret_new(value, strlen(value));
	return *ret ? 0 : err_origin(-ENOMEM);
}

static void config_env_take_row(struct config_env *env, size_t row)
{
	for (size_t i = 0; i < 2; i++) {
		const char *variable = option_at(row)->env[i].variable;
		const char *value = variable ? getenv(variable) : NULL;

		if (value && *value)
			env->values[row][i] = xstrdup(value);
	}
}

int config_env_new(struct config_env **ret)
{
	_cleanup_(config_env_freep) struct config_env *env = xcalloc(1, sizeof(*env));
	const char *stale = getenv(CONFIG_ENV_NO_EFFECT);
	int r = config_env_take_secret(CONFIG_ENV_MASTER_KEY, &env->master_key);

	if (r == 0)
		r = config_env_take_secret(CONFIG_ENV_PROVIDER_KEY, &env->provider_key);
	if (r)
		return r;
	env->stale_ms = stale && *stale;
	env->values = xcalloc(option_count(), sizeof(*env->values));
	for (size_t row = 0; row < option_count(); row++)
		config_env_take_row(env, row);
	*ret = TAKE(env);
	return 0;
}

void config_env_free(struct config_env *env)
{
	if (!env)
		return;
	for (size_t row = 0; env->values && row < option_count(); row++) {
		free(env->values[row][0]);
		free(env->values[row][1]);
	}
	free(env->values);
	secret_free(env->master_key);
	secret_free(env->provider_key);
	free(env);
}

void config_env_scrub(void)
{
	static const char *const names[] = { CONFIG_ENV_MASTER_KEY, CONFIG_ENV_PROVIDER_KEY,
					     "LITELLM_SALT_KEY" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		(void)env_scrub(names[i]); /* it need not be set */
}

const struct secret *config_env_master_key(const struct config_env *env)
{
	return env ? env->master_key : NULL;
}

/* "${pid}" and "${process.pid}" are what these variables always said; a file says "%{pid}". */
static char *config_env_template(const char *text)
{
	static const char *const names[] = { "${pid}", "${process.pid}" };
	char *ret = xcalloc(strlen(text) + 1, 1), *to = ret; /* what comes in is never shorter */

	while (*text) {
		size_t n = 0;

		for (size_t i = 0; i < ARRAY_SIZE(names) && n == 0; i++)
			if (strncmp(text, names[i], strlen(names[i])) == 0)
				n = strlen(names[i]);
		if (n)
			to = stpcpy(to, "%{pid}");
		else
			*to++ = *text;
		text += n ? n : 1;
	}
	return ret;
}

static void config_env_trim(char **text)
{
	char *at = *text + strspn(*text, " \t\r\n");
	size_t n = strlen(at);

	while (n && strchr(" \t\r\n", at[n - 1]))
		n--;
	at[n] = '\0';
	*text = at;
}

/* A list by commas; `value` is cut up. Items stay empty where nothing stands between commas. */
static int config_env_set_list(const struct option *o, char *value, void *base, const char *origin,
			       char *why)
{
	_cleanup_(freep) const char **items = xcalloc(strlen(value) + 1, sizeof(*items));
	size_t n = 0;

	for (char *rest = value, *item; (item = strsep(&rest, ","));) {
		config_env_trim(&item);
		items[n++] = item;
	}
	return option_set(o, items, n, base, origin, why);
}

/* Sets one option from a variable's value. */
static void config_env_set(const struct option *o, const char *variable, const char *value,
			   void *base, struct config_report *report)
{
	_cleanup_(freep) char *text =
		o->type == OPTION_ALIAS ? config_env_template(value) : xstrdup(value);
	char *trimmed = text, why[OPTION_WHY_MAX];
	int r;

	config_env_trim(&trimmed);
	/* clients write their socket as a URL at times */
	if (o->section == SECTION_TOP && strncmp(trimmed, "unix://", 7) == 0)
		trimmed += 7;
	if (o->type == OPTION_LIST)
		r = config_env_set_list(o, trimmed, base, variable, why);
	else
		r = option_set(o, (const char *const *)&trimmed, 1, base, variable, why);
	if (r)
		config_report_error(report, variable, "%s", why);
}

void config_env_apply(const struct config_env *env, bool skip_admin, struct config *c,
		      struct config_report *report)
{
	for (size_t row = 0; env && row < option_count(); row++) {
		const struct option *o = option_at(row);

		if (o->section >= SECTION_PROFILE || !env->values[row][0])
			continue;
		/* OPENAI_API_KEY and OPENAI_BASE_URL belong together: see config_env_static() */
		if (env->provider_key && o == option_find(SECTION_UPSTREAM, "base_url"))
			continue;
		if (skip_admin && o == option_find(SECTION_TOP, "admin_socket"))
			continue;
		config_env_set(o, o->env[0].variable, env->values[row][0], c, report);
	}
	if (env && env->stale_ms)
		config_add_warning(c, CONFIG_ENV_NO_EFFECT
				   ": accepted, but has no effect: there is no "
				   "token file to lock");
}

static bool config_env_is_profile_row(size_t row)
{
	return option_at(row)->section == SECTION_PROFILE || option_at(row)->section == SECTION_KEY;
}

static bool config_env_names(const struct config_env *env, size_t profile)
{
	for (size_t row = 0; env && row < option_count(); row++)
		if (config_env_is_profile_row(row) && env->values[row][profile])
			return true;
	return false;
}

/* `service` as the provider's key in OPENAI_API_KEY: what was said of it as LiteLLM's is void. */
static void config_env_static(const struct config_env *env, struct config *c, struct profile *p,
			      struct config_report *report)
{
	const struct option *upstream_base = option_find(SECTION_UPSTREAM, "base_url");
	const char *mode = "static", *base = env->values[upstream_base - option_at(0)][0];
	char why[OPTION_WHY_MAX];

	/* a base URL that was meant for LiteLLM's keys must not get the provider's */
	if (p->mode != PROFILE_STATIC) {
		option_clear_section(SECTION_PROFILE, p);
		option_clear_section(SECTION_KEY, p);
		option_clear_section(SECTION_TEAM, p);
		option_clear_origins(&p->origins);
	}
	free(TAKE(p->key_file));
	if (option_set(option_find(SECTION_PROFILE, "mode"), &mode, 1, p, CONFIG_ENV_PROVIDER_KEY,
		       why))
		config_report_error(report, CONFIG_ENV_PROVIDER_KEY, "%s", why);
	if (base)
		config_env_set(option_find(SECTION_PROFILE, "base_url"),
			       upstream_base->env[0].variable, base, p, report);
	p->static_key = secret_copy(env->provider_key);
	config_add_warning(
		c, CONFIG_ENV_PROVIDER_KEY
		": profile \"service\" hands out that key as it is; nothing is provisioned "
		"in LiteLLM for it");
}

/* An option's default in this profile. It is no setting, so it has no origin. */
static void config_env_fallback(const struct option *o, const char *text, struct profile *p,
				struct config_report *report)
{
	char why[OPTION_WHY_MAX];

	if (option_set(o, &text, 1, p, NULL, why))
		config_report_error(report, "default", "%s", why);
}

static void config_env_set_profile(const struct config_env *env, size_t i, struct profile *p,
				   struct config_report *report)
{
	for (size_t row = 0; row < option_count(); row++) {
		const struct option *o = option_at(row);
		const struct option_env *from = &o->env[i];

		if (!config_env_is_profile_row(row) || !from->variable)
			continue;
		if (env && env->values[row][i])
			config_env_set(o, from->variable, env->values[row][i], p, report);
		else if (from->fallback && !option_was_set(o, p) &&
			 p->mode == config_env_profiles[i].mode)
			config_env_fallback(o, from->fallback, p, report);
	}
}

/* Is there to be this profile? Without a file, both; a file that has profiles of its own decides,
 * unless a variable speaks of this one. */
static bool config_env_wants(const struct config_env *env, const struct config *c, size_t i)
{
	return c->n_profiles == 0 || config_env_names(env, i);
}

static void config_env_apply_profile(const struct config_env *env, size_t i, bool wanted,
				     struct config *c, struct config_report *report)
{
	const struct option *mode = option_find(SECTION_PROFILE, "mode");
	const char *mode_name = profile_mode_name(config_env_profiles[i].mode);
	struct profile *p = config_profile_to_change(c, config_env_profiles[i].name);
	char why[OPTION_WHY_MAX];

	if (!p && wanted)
		p = config_add_profile(c, config_env_profiles[i].name, "environment", report);
	if (!p)
		return;
	if (i == 0 && env && env->provider_key) {
		config_env_static(env, c, p, report);
		return;
	}
	if (!option_was_set(mode, p) && option_set(mode, &mode_name, 1, p, "default", why))
		config_report_error(report, p->origin.text, "%s", why);
	config_env_set_profile(env, i, p, report);
}

void config_env_apply_profiles(const struct config_env *env, bool always, struct config *c,
			       struct config_report *report)
{
	bool wanted[2], upstream = always || c->upstream_url || c->master_key;

	/* both are asked before the first is there */
	for (size_t i = 0; i < 2; i++)
		wanted[i] = (upstream && config_env_wants(env, c, i)) ||
			    (i == 0 && env && env->provider_key);
	for (size_t i = 0; i < 2; i++)
		config_env_apply_profile(env, i, wanted[i], c, report);
}

static void config_env_add_rule(struct config *c, const char *name, const char *option, id_t id,
				struct config_report *report)
{
	struct rule *r = config_add_rule(c, name, "default", report);
	char text[16], why[OPTION_WHY_MAX];
	const char *id_text = text, *all = "*";

	(void)snprintf(text, sizeof(text), "%u", id);
	if (option_set(option_find(SECTION_RULE, option), &id_text, 1, r, "default", why) ||
	    option_set(option_find(SECTION_RULE, "profiles"), &all, 1, r, "default", why))
		config_report_error(report, "default", "%s", why);
}

void config_env_apply_rules(struct config *c, struct config_report *report)
{
	const struct group *clients = getgrnam(CONFIG_ENV_CLIENTS);

	config_env_add_rule(c, "owner", "uid", geteuid(), report);
	if (clients)
		config_env_add_rule(c, "clients", "group", clients->gr_gid, report);
}
