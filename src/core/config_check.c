/*
 * What only the whole configuration can tell: missing counterparts, names that lead nowhere, URLs
 * that would carry keys where they must not go. Errors and warnings name the place of the value.
 */
#include <limits.h>
#include <string.h>

#include "base/alloc.h"
#include "base/secret.h"
#include "core/alias.h"
#include "core/config_build.h"
#include "core/key.h"
#include "core/option.h"
#include "core/url.h"

#define CONFIG_PROVIDER_HOST "api.openai.com"

/* Where a profile's option was set, or else where the profile was. */
static const char *config_check_origin(const struct profile *p, enum option_section section,
				       const char *name)
{
	const struct option *o = option_find(section, name);

	return option_was_set(o, p) ? option_origin(o, p) : p->origin.text;
}

static const char *config_check_top_origin(const struct config *c, enum option_section section,
					   const char *name)
{
	return option_origin(option_find(section, name), c);
}

/* A URL that keys travel to. It has been parsed before. */
static void config_check_http(const struct config *c, const char *url, const char *origin,
			      struct config_report *report)
{
	struct url parsed;

	if (!url || url_parse(url, &parsed) || parsed.https || parsed.loopback || c->insecure_http)
		return;
	config_report_error(report, origin,
			    "plain http to %s would carry keys in clear: use https, or, if that "
			    "network is private (the usual case: http://litellm:4000 in compose), "
			    "set KEYBROKER_INSECURE_HTTP=1 or upstream { insecure_http = yes }",
			    parsed.host);
}

static bool config_check_is_provider(const char *url)
{
	struct url parsed;

	return url && !url_parse(url, &parsed) && strcmp(parsed.host, CONFIG_PROVIDER_HOST) == 0;
}

void config_check_base_url(const struct config *c, const char *url, const char *origin,
			   struct config_report *report)
{
	config_check_http(c, url, origin, report);
	if (config_check_is_provider(url))
		config_report_error(report, origin,
				    "a LiteLLM key cannot work at " CONFIG_PROVIDER_HOST
				    ": take the base URL out, or name LiteLLM's");
}

static void config_check_upstream(const struct config *c, struct config_report *report)
{
	const char *url = config_check_top_origin(c, SECTION_UPSTREAM, "url");

	if (c->upstream_url && !c->master_key)
		config_report_error(report, url,
				    "there is a LiteLLM URL but no master key: set "
				    "LITELLM_MASTER_KEY or LITELLM_MASTER_KEY_FILE, or upstream { "
				    "master_key_file = … }");
	if (!c->upstream_url && c->master_key)
		config_report_error(
			report,
			c->master_key_source == MASTER_KEY_CREDENTIAL ? "CREDENTIALS_DIRECTORY"
			: c->master_key_source == MASTER_KEY_ENV
				? "LITELLM_MASTER_KEY"
				: config_check_top_origin(c, SECTION_UPSTREAM, "master_key_file"),
			"there is a master key but no LiteLLM URL: set LITELLM_BASE_URL or "
			"upstream { url = … }");
	config_check_http(c, c->upstream_url, url, report);
	config_check_base_url(c, c->openai_base_url,
			      config_check_top_origin(c, SECTION_UPSTREAM, "base_url"), report);
}

static void config_check_places(const struct config *c, struct config_report *report)
{
	const struct {
		const char *name, *path;
	} sockets[] = { { "socket", c->socket_path }, { "admin_socket", c->admin_socket_path } };

	for (size_t i = 0; i < ARRAY_SIZE(sockets); i++)
		if (sockets[i].path && strlen(sockets[i].path) > CONFIG_SOCKET_MAX)
			config_report_error(
				report, config_check_top_origin(c, SECTION_TOP, sockets[i].name),
				"the socket path %s has %zu bytes, and the kernel takes "
				"at most %d: choose a shorter one (--socket)",
				sockets[i].path, strlen(sockets[i].path), CONFIG_SOCKET_MAX);
	if (c->socket_path && c->admin_socket_path &&
	    strcmp(c->socket_path, c->admin_socket_path) == 0)
		config_report_error(report, config_check_top_origin(c, SECTION_TOP, "admin_socket"),
				    "socket and admin_socket must differ");
	if (c->timing.ttl_default_ms > c->timing.ttl_max_ms)
		config_report_error(
			report,
			config_check_top_origin(c, SECTION_LEASE,
						option_was_set(option_find(SECTION_LEASE, "ttl"), c)
							? "ttl"
							: "ttl_max"),
			"lease { ttl } is longer than lease { ttl_max }");
}

static void config_check_static(const struct config *c, const struct profile *p,
				struct config_report *report)
{
	config_check_http(c, p->base_url, config_check_origin(p, SECTION_PROFILE, "base_url"),
			  report);
	if (!p->static_key)
		config_report_error(report, p->origin.text,
				    "profile \"%s\" is static and needs a key_file with the "
				    "provider's key",
				    p->name);
}

static void config_check_life(const struct config *c, const struct profile *p,
			      struct config_report *report)
{
	long long floor_s = c->timing.duration_min_ms / 1000;

	if (p->duration && p->duration_ms < c->timing.duration_min_ms)
		config_report_error(report, config_check_origin(p, SECTION_PROFILE, "duration"),
				    "profile \"%s\": duration %s is under the %lld minutes that a "
				    "key must live, since other LiteLLM processes honour a changed "
				    "expiry up to 60 s late",
				    p->name, p->duration, floor_s / 60);
	if (!p->rotate_every_ms)
		return;
	if (p->mode != PROFILE_SHARED)
		config_report_error(report, config_check_origin(p, SECTION_PROFILE, "rotate_every"),
				    "profile \"%s\": rotate_every is for shared profiles only",
				    p->name);
	else if (p->rotate_every_ms < c->timing.duration_min_ms)
		config_report_error(report, config_check_origin(p, SECTION_PROFILE, "rotate_every"),
				    "profile \"%s\": rotate_every must be %lld minutes or more",
				    p->name, floor_s / 60);
}

/* A profile whose keys LiteLLM makes. */
/* The first option of team { } that the profile sets, or NULL. */
static const struct option *config_check_team_option(const struct profile *p)
{
	for (size_t i = 0; i < option_count(); i++)
		if (option_at(i)->section == SECTION_TEAM && option_was_set(option_at(i), p))
			return option_at(i);
	return NULL;
}

static bool config_check_same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool config_check_same_team(const struct profile *a, const struct profile *b)
{
	if (a->team_id || b->team_id)
		return config_check_same_text(a->team_id, b->team_id);
	return config_check_same_text(a->team_alias, b->team_alias);
}

static bool config_check_same_limits(const struct profile *a, const struct profile *b)
{
	bool same = true;

	for (size_t i = 0; i < option_count() && same; i++) {
		const struct option *o = option_at(i);
		_cleanup_(freep) char *one = NULL, *other = NULL;

		if (o->section != SECTION_TEAM)
			continue;
		one = option_show(o, a);
		other = option_show(o, b);
		same = config_check_same_text(one, other);
	}
	return same;
}

/* One team has one set of limits, whichever profiles name it. */
static void config_check_team(const struct config *c, const struct profile *p,
			      struct config_report *report)
{
	const struct option *set = config_check_team_option(p);

	if (!set)
		return;
	if (!p->team_id && !p->team_alias)
		config_report_error(
			report, option_origin(set, p),
			"profile \"%s\" has team { } but no team: name it in team_alias", p->name);
	for (const struct profile *o = c->profiles; o < p; o++)
		if (config_check_team_option(o) && config_check_same_team(o, p) &&
		    !config_check_same_limits(o, p))
			config_report_error(
				report, option_origin(set, p),
				"profile \"%s\" has the team of profile \"%s\" with other "
				"limits: write the same team { } in both, or in one alone",
				p->name, o->name);
}

static void config_check_minted(const struct config *c, const struct profile *p,
				struct config_report *report)
{
	if (!c->upstream_url && !c->master_key)
		config_report_error(report, p->origin.text,
				    "profile \"%s\" needs LiteLLM: set LITELLM_BASE_URL and "
				    "LITELLM_MASTER_KEY (or _FILE), or upstream { url, "
				    "master_key_file }",
				    p->name);
	if (p->n_models == 0)
		config_report_error(report, p->origin.text, "profile \"%s\" needs models", p->name);
	if (p->mode == PROFILE_SHARED && alias_template_varies(p->alias))
		config_report_error(report, config_check_origin(p, SECTION_PROFILE, "alias"),
				    "profile \"%s\" is shared, so its alias must be the same for "
				    "all: \"%s\" varies with the caller",
				    p->name, p->alias);
	if (p->team_id && strlen(p->team_id) >= TEAM_ID_MAX)
		config_report_error(report, config_check_origin(p, SECTION_PROFILE, "team_id"),
				    "a team_id has less than %d bytes", TEAM_ID_MAX);
	if (p->key_file)
		config_report_error(report, config_check_origin(p, SECTION_PROFILE, "key_file"),
				    "profile \"%s\": key_file is for static profiles only",
				    p->name);
	if (p->pool > 0 && p->mode != PROFILE_DEDICATED)
		config_report_error(report, config_check_origin(p, SECTION_PROFILE, "pool"),
				    "profile \"%s\": pool is for dedicated profiles only", p->name);
	config_check_team(c, p, report);
	config_check_life(c, p, report);
	config_check_base_url(c, p->base_url, config_check_origin(p, SECTION_PROFILE, "base_url"),
			      report);
}

static void config_check_profile(const struct config *c, const struct profile *p,
				 struct config_report *report)
{
	if (!option_was_set(option_find(SECTION_PROFILE, "mode"), p))
		config_report_error(report, p->origin.text,
				    "profile \"%s\" needs a mode: shared, dedicated or static",
				    p->name);
	else if (p->mode == PROFILE_STATIC)
		config_check_static(c, p, report);
	else
		config_check_minted(c, p, report);
}

void config_validate(const struct config *c, struct config_report *report)
{
	config_check_upstream(c, report);
	config_check_places(c, report);
	for (size_t i = 0; i < c->n_profiles; i++)
		config_check_profile(c, &c->profiles[i], report);
	config_validate_rules(c, report);
	if (c->n_profiles == 0)
		config_report_error(report, "configuration",
				    "there is nothing to hand out: set LITELLM_BASE_URL and "
				    "LITELLM_MASTER_KEY, or write a file with keybrokerd --init");
}

/* Master keys of tutorials and examples, which anyone tries first. */
bool config_master_key_is_well_known(const struct config *c)
{
	static const char *const known[] = {
		"sk-1234",   "sk-12345",      "sk-123456", "sk-litellm",  "sk-litellm-master-key",
		"sk-master", "sk-master-key", "sk-test",   "sk-changeme", "sk-admin",
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (c->master_key && strcmp(secret_text(c->master_key), known[i]) == 0)
			return true;
	return false;
}

/* A key that is sent to another host than the one that made it is lost there. */
void config_judge_base_url(struct config *c, const char *url, const char *origin)
{
	struct url base, upstream;

	if (!url || !c->upstream_url || url_parse(url, &base) ||
	    url_parse(c->upstream_url, &upstream) || strcmp(base.host, upstream.host) == 0 ||
	    (base.loopback && upstream.loopback))
		return;
	config_add_warning(
		c,
		"%s: the base URL handed out is on %s, but the keys are made by LiteLLM on "
		"%s",
		origin, base.host, upstream.host);
}

/* To LiteLLM 0 is a limit like any other: it lets no call through. */
static void config_judge_limits(struct config *c, const struct profile *p,
				enum option_section section, const struct key_limits *l)
{
	const struct {
		const char *name;
		bool zero;
	} limits[] = { { "max_budget", l->max_budget >= 0 && l->max_budget <= 0 },
		       { "rpm_limit", l->rpm_limit == 0 },
		       { "tpm_limit", l->tpm_limit == 0 } };

	for (size_t i = 0; i < ARRAY_SIZE(limits); i++)
		if (limits[i].zero)
			config_add_warning(
				c,
				"%s: profile \"%s\" has %s 0, with which LiteLLM refuses "
				"each call: leave it out for no limit",
				config_check_origin(p, section, limits[i].name), p->name,
				limits[i].name);
}

static void config_judge_profile(struct config *c, const struct profile *p)
{
	if (p->mode == PROFILE_STATIC)
		return;
	config_judge_limits(c, p, SECTION_KEY, &p->key);
	config_judge_limits(c, p, SECTION_TEAM, &p->team);
	if (p->team_id && config_check_team_option(p))
		config_add_warning(c,
				   "%s: profile \"%s\" has a team_id, and that team is yours: its "
				   "team { } is compared with LiteLLM's, never set",
				   option_origin(config_check_team_option(p), p), p->name);
	config_judge_base_url(c, p->base_url, config_check_origin(p, SECTION_PROFILE, "base_url"));
	if (p->team_id && option_was_set(option_find(SECTION_PROFILE, "team_alias"), p))
		config_add_warning(c,
				   "%s: profile \"%s\" has a team_id, so team_alias has no effect",
				   config_check_origin(p, SECTION_PROFILE, "team_alias"), p->name);
	if (p->team_id || p->team_alias)
		return;
	for (size_t i = 0; i < p->n_models; i++)
		if (strcmp(p->models[i], "all-team-models") == 0)
			config_add_warning(c,
					   "%s: profile \"%s\" has no team: to LiteLLM, "
					   "all-team-models then means every model there is",
					   config_check_origin(p, SECTION_PROFILE, "models"),
					   p->name);
}

void config_judge(struct config *c)
{
	if (c->master_key && config_master_key_is_well_known(c))
		config_add_warning(c, "THE MASTER KEY IS A WELL-KNOWN EXAMPLE: whoever reaches "
				      "LiteLLM can guess it. Change it in LiteLLM and here");
	config_judge_base_url(c, c->openai_base_url,
			      config_check_top_origin(c, SECTION_UPSTREAM, "base_url"));
	for (size_t i = 0; i < c->n_profiles; i++)
		config_judge_profile(c, &c->profiles[i]);
	config_judge_rules(c);
}
