/*
 * keybroker.conf by libConfuse. Every value is taken as text with its line (CFGT_PTR) and judged by
 * the table of options, so that one run reports all that is wrong, and not only the first.
 */
#include "io/config_file.h"

#include <confuse.h>
#include <string.h>

#include "base/alloc.h"
#include "core/config_build.h"
#include "core/option.h"
#include "io/config_file_rows.h"
#include "io/config_ids.h"
#include "io/config_text.h"

static char *config_file_origin(const struct config_file_context *ctx, int line)
{
	return xasprintf("%s:%d", ctx->path, line);
}

/* One option's values in one section. */
static void config_file_take_option(const struct config_file_context *ctx, const struct option *o,
				    cfg_opt_t *opt, void *base)
{
	unsigned int n = cfg_opt_size(opt);
	_cleanup_(freep) const char **texts = xcalloc(n, sizeof(*texts));
	_cleanup_(freep) char *origin = NULL, *id = NULL;
	const struct config_file_value *first = n ? cfg_opt_getnptr(opt, 0) : NULL;
	char why[OPTION_WHY_MAX];

	/* empty counts as not said, as in the environment; an empty item of a list does not */
	if (!first || (o->type != OPTION_LIST && !*first->text))
		return;
	for (unsigned int i = 0; i < n; i++)
		texts[i] = ((const struct config_file_value *)cfg_opt_getnptr(opt, i))->text;
	origin = config_file_origin(ctx, first->line);
	if (o->type == OPTION_ID) {
		texts[0] = id = config_id(o->name, texts[0]);
		if (!id) {
			config_report_error(ctx->report, origin, "%s \"%s\" is not known here",
					    o->name, first->text);
			return;
		}
		if (o->section == SECTION_LISTEN && !config_may_give(id))
			config_report_error(ctx->report, origin,
					    "this user is not in the group \"%s\", so it cannot "
					    "give a socket to it: usermod -aG %s, then start the "
					    "broker again",
					    first->text, first->text);
	}
	if (option_set(o, texts, n, base, origin, why))
		config_report_error(ctx->report, origin, "%s: %s", o->name, why);
}

static void config_file_take_section(const struct config_file_context *ctx,
				     enum option_section section, cfg_t *cfg, void *base)
{
	for (size_t i = 0; i < option_count(); i++) {
		const struct option *o = option_at(i);

		if (o->section == section)
			config_file_take_option(ctx, o, cfg_getopt(cfg, o->name), base);
	}
}

static void config_file_take_profile(const struct config_file_context *ctx, cfg_t *cfg,
				     struct config *c)
{
	const char *name = cfg_title(cfg);
	_cleanup_(freep) char *origin = config_file_origin(ctx, config_file_line(cfg));
	struct profile *p = config_profile_to_change(c, name);

	if (p) {
		config_report_error(ctx->report, origin, "profile \"%s\" is already defined at %s",
				    name, p->origin.text);
		return;
	}
	p = config_add_profile(c, name, origin, ctx->report);
	if (!p)
		return;
	config_file_take_section(ctx, SECTION_PROFILE, cfg, p);
	for (int i = SECTION_KEY; i <= SECTION_TEAM; i++) {
		enum option_section section = (enum option_section)i;

		config_file_take_section(ctx, section,
					 cfg_getsec(cfg, option_section_name(section)), p);
	}
}

static void config_file_take_rule(const struct config_file_context *ctx,
				  enum option_section section, cfg_t *cfg, struct config *c)
{
	const char *name = cfg_title(cfg);
	_cleanup_(freep) char *origin = config_file_origin(ctx, config_file_line(cfg));
	struct rule *r = config_rule_to_change(c, name);

	if (r) {
		config_report_error(ctx->report, origin,
				    "%s \"%s\": the %s at %s has this name already; rules and "
				    "listen sections share their names",
				    option_section_name(section), name,
				    r >= c->rules && r < c->rules + c->n_rules ? "rule" : "listen",
				    r->origin.text);
		return;
	}
	r = section == SECTION_RULE ? config_add_rule(c, name, origin, ctx->report)
				    : config_add_listen(c, name, origin, ctx->report);
	if (!r)
		return;
	config_file_take_section(ctx, section, cfg, r);
	if (option_was_set(option_find(SECTION_RULE, "user"), r) &&
	    option_was_set(option_find(SECTION_RULE, "uid"), r))
		config_report_error(ctx->report, origin, "rule \"%s\" names both user and uid",
				    name);
}

static void config_file_take(const struct config_file_context *ctx, cfg_t *cfg, struct config *c)
{
	const char *profile = option_section_name(SECTION_PROFILE);

	config_file_take_section(ctx, SECTION_TOP, cfg, c);
	for (int section = SECTION_UPSTREAM; section <= SECTION_LIMITS; section++)
		config_file_take_section(
			ctx, (enum option_section)section,
			cfg_getsec(cfg, option_section_name((enum option_section)section)), c);
	for (unsigned int i = 0; i < cfg_size(cfg, profile); i++)
		config_file_take_profile(ctx, cfg_getnsec(cfg, profile, i), c);
	for (int section = SECTION_RULE; section <= SECTION_LISTEN; section++) {
		const char *kind = option_section_name((enum option_section)section);

		for (unsigned int i = 0; i < cfg_size(cfg, kind); i++)
			config_file_take_rule(ctx, (enum option_section)section,
					      cfg_getnsec(cfg, kind, i), c);
	}
}

void config_file_parse(const char *path, char *text, size_t n, struct config *c,
		       struct config_report *report)
{
	struct config_file_context ctx = { .path = path, .report = report };
	cfg_t *cfg;

	if (!config_text_clean(path, text, n, report))
		return;
	cfg = config_file_rows_new(&ctx);
	/* what was parsed before a syntax error is not judged: half a section would look wrong */
	if (cfg_parse_buf(cfg, text) == CFG_SUCCESS)
		config_file_take(&ctx, cfg, c);
	(void)cfg_free(cfg); /* fails for NULL alone */
}
