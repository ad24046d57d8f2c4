/*
 * Rows for libConfuse and its two callbacks. Neither callback gets a userdata pointer, and a global
 * is none of our ways: so each array of options begins with a section that no file can name, whose
 * unused default number carries the context. libConfuse makes that section where its parent begins,
 * which also tells the line of that.
 */
#include "io/config_file_rows.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "core/config_build.h"
#include "core/option.h"

/* config_text_clean() lets no control character into a name. */
#define CONFIG_FILE_START "\001"

static struct config_file_context *config_file_context(const cfg_t *cfg)
{
	return (struct config_file_context *)cfg->opts[0].def.number;
}

int config_file_line(cfg_t *section)
{
	return cfg_getnsec(section, CONFIG_FILE_START, 0)->line;
}

/* Takes a value as it is. The option's own unused default number remembers its line. */
static int config_file_parse_value(cfg_t *cfg, cfg_opt_t *opt, const char *text, void *result)
{
	struct config_file_context *ctx = config_file_context(cfg);
	size_t size = strlen(text) + 1;
	struct config_file_value *value = xcalloc(1, sizeof(*value) + size);

	/* its first value, although it had one before: not += */
	if (opt->nvalues == 1 && opt->def.number) {
		_cleanup_(freep) char *origin = xasprintf("%s:%d", ctx->path, cfg->line);

		config_report_error(ctx->report, origin, "%s is already set on line %ld", opt->name,
				    opt->def.number);
	}
	if (opt->nvalues == 1)
		opt->def.number = cfg->line;
	value->line = cfg->line;
	memcpy(value->text, text, size);
	*(void **)result = value;
	return 0;
}

/* Says where an unknown key would be known. */
static void config_file_unknown(const cfg_t *cfg, const char *origin, const char *name)
{
	struct config_file_context *ctx = config_file_context(cfg);

	ctx->unknown_line = cfg->line;
	if (strcmp(name, "master_key") == 0 || strcmp(name, "api_key") == 0) {
		config_report_error(ctx->report, origin,
				    "unknown key %s: a secret never stands in this file; write it "
				    "into one of mode 0600 and name that in master_key_file or "
				    "key_file",
				    name);
		return;
	}
	for (size_t i = 0; i < option_count(); i++)
		if (strcmp(option_at(i)->name, name) == 0) {
			const char *section = option_section_name(option_at(i)->section);

			config_report_error(ctx->report, origin,
					    *section
						    ? "unknown key %s here: it belongs into %s { }"
						    : "unknown key %s here: it belongs outside all "
						      "sections%s",
					    name, section);
			return;
		}
	config_report_error(ctx->report, origin, "unknown key %s", name);
}

/* A section's second appearance; which kind it is, libConfuse doesn't say. */
static void config_file_duplicate(cfg_t *cfg, const char *origin, const char *title)
{
	static const enum option_section kinds[] = { SECTION_PROFILE, SECTION_RULE,
						     SECTION_LISTEN };
	char where[96] = "";

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const char *kind = option_section_name(kinds[i]);
		cfg_t *first = cfg_gettsec(cfg, kind, title);
		size_t n = strlen(where);

		if (first)
			(void)snprintf(where + n, sizeof(where) - n, "%sline %d (%s)",
				       n ? " or " : "", config_file_line(first), kind);
	}
	config_report_error(config_file_context(cfg)->report, origin,
			    "\"%s\" is already defined on %s", title, where);
}

/* libConfuse's messages, by their format, in words that fit. `%s` stands for its argument. */
static const struct {
	const char *format, *before, *after;
} config_file_messages[] = {
	{ "premature end of file", "the file ends too soon: a } or a value is missing", "" },
	{ "unexpected closing brace", "this } closes nothing", "" },
	{ "unexpected token '%s'", "'", "' is not expected here" },
	{ "missing equal sign after option '%s'", "after ", " there must be = and a value" },
	{ "missing opening brace for section '%s'", "section ", " must go on with {" },
	{ "missing title for section '%s'", "section ", " needs a name: NAME { … }" },
	{ "attempt to append to non-list option '%s'", "", " is no list: write = instead of +=" },
};

static void __attribute__((format(printf, 2, 0)))
config_file_error(cfg_t *cfg, const char *fmt, va_list ap)
{
	struct config_file_context *ctx = config_file_context(cfg);
	_cleanup_(freep) char *origin = xasprintf("%s:%d", ctx->path, cfg->line);
	const char *argument = strstr(fmt, "%s") ? va_arg(ap, const char *) : "";

	if (strcmp(fmt, "no such option '%s'") == 0) {
		config_file_unknown(cfg, origin, argument);
		return;
	}
	if (ctx->unknown_line == cfg->line)
		return;
	if (strcmp(fmt, "found duplicate title '%s'") == 0) {
		config_file_duplicate(cfg, origin, argument);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(config_file_messages); i++)
		if (strcmp(fmt, config_file_messages[i].format) == 0) {
			config_report_error(ctx->report, origin, "%s%s%s",
					    config_file_messages[i].before, argument,
					    config_file_messages[i].after);
			return;
		}
	config_report_error(ctx->report, origin, "syntax error near '%s'", argument);
}

static cfg_opt_t config_file_section_row(enum option_section section, cfg_opt_t *sub)
{
	bool named =
		section == SECTION_PROFILE || section == SECTION_RULE || section == SECTION_LISTEN;

	return (cfg_opt_t)CFG_SEC(option_section_name(section), sub,
				  named ? CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES : 0);
}

/* The options of one section, room for `n_sub` sections behind them, and the end. */
static cfg_opt_t *config_file_section_rows(struct config_file_context *ctx,
					   enum option_section section, size_t n_sub, size_t *ret_n)
{
	static cfg_opt_t none[] = { CFG_END() };
	cfg_opt_t *rows = xcalloc(option_count() + n_sub + 2, sizeof(*rows));
	size_t n = 0;

	rows[n] = (cfg_opt_t)CFG_SEC(CONFIG_FILE_START, none, 0);
	rows[n++].def.number = (long)ctx;
	for (size_t i = 0; i < option_count(); i++)
		if (option_at(i)->section == section)
			rows[n++] = (cfg_opt_t)CFG_PTR_CB(
				option_at(i)->name, NULL,
				option_at(i)->type == OPTION_LIST ? CFGF_LIST : 0,
				config_file_parse_value, free);
	rows[n + n_sub] = (cfg_opt_t)CFG_END();
	*ret_n = n;
	return rows;
}

cfg_t *config_file_rows_new(struct config_file_context *ctx)
{
	static const enum option_section in_top[] = { SECTION_UPSTREAM, SECTION_LEASE,
						      SECTION_LIMITS,	SECTION_PROFILE,
						      SECTION_RULE,	SECTION_LISTEN };
	static const enum option_section in_profile[] = { SECTION_KEY, SECTION_TEAM };
	cfg_opt_t *subs[ARRAY_SIZE(in_top)], *limits[ARRAY_SIZE(in_profile)];
	size_t n, n_profile;
	cfg_opt_t *top = config_file_section_rows(ctx, SECTION_TOP, ARRAY_SIZE(in_top), &n);
	cfg_t *cfg;

	for (size_t i = 0; i < ARRAY_SIZE(in_profile); i++)
		limits[i] = config_file_section_rows(ctx, in_profile[i], 0, &n_profile);
	for (size_t i = 0; i < ARRAY_SIZE(in_top); i++) {
		size_t n_sub = in_top[i] == SECTION_PROFILE ? ARRAY_SIZE(in_profile) : 0;

		subs[i] = config_file_section_rows(ctx, in_top[i], n_sub, &n_profile);
		for (size_t k = 0; k < n_sub; k++)
			subs[i][n_profile + k] = config_file_section_row(in_profile[k], limits[k]);
		top[n + i] = config_file_section_row(in_top[i], subs[i]);
	}
	/* an unknown key is reported by the error function, and CFGF_KEYSTRVAL lets the parser go
	 * on */
	cfg = cfg_init(top, CFGF_KEYSTRVAL);
	/* it has copied all rows */
	for (size_t i = 0; i < ARRAY_SIZE(in_top); i++)
		free(subs[i]);
	for (size_t i = 0; i < ARRAY_SIZE(in_profile); i++)
		free(limits[i]);
	free(top);
	if (!cfg)
		abort();
	(void)cfg_set_error_function(cfg, config_file_error); /* yields the old one: none */
	return cfg;
}
