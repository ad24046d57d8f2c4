/* `--check`: the effective configuration in the file's own syntax, origins as comments, no secrets.
 */
#include "io/config.h"

#include <string.h>

#include "base/alloc.h"
#include "core/option.h"
#include "io/config_ids.h"
#include "io/config_value.h"

#define CONFIG_SHOW_COLUMN 64 /* where the origins stand */

bool config_value_is_synonym(const struct option *o)
{
	return o->type == OPTION_ID && strcmp(o->name, "user") == 0;
}

char *config_value_show(const struct option *o, const void *base)
{
	const struct rule *rule = base;
	_cleanup_(freep) char *name = NULL;

	if (o->type != OPTION_ID || strcmp(o->name, "group") != 0 || !rule->has_gid)
		return option_show(o, base);
	name = config_group_name(rule->gid);
	return xasprintf("\"%s\"", name);
}

bool config_value_any(enum option_section section, const void *base)
{
	for (size_t i = 0; i < option_count(); i++) {
		_cleanup_(freep) char *value =
			option_at(i)->section == section ? option_show(option_at(i), base) : NULL;

		if (value)
			return true;
	}
	return false;
}

static void config_show_line(FILE *out, const char *indent, const char *name, const char *value,
			     const char *origin)
{
	_cleanup_(freep) char *left = xasprintf("%s%s = %s", indent, name, value);

	fprintf(out, "%-*s # %s\n", CONFIG_SHOW_COLUMN, left, origin);
}

/* A rule's user is shown as the uid that it is. */
static const struct option *config_show_source(const struct option *o, const void *base)
{
	if (o->section != SECTION_RULE || strcmp(o->name, "uid") != 0 || option_was_set(o, base))
		return o;
	return option_find(SECTION_RULE, "user");
}

static void config_show_section(FILE *out, enum option_section section, const void *base,
				const char *indent)
{
	for (size_t i = 0; i < option_count(); i++) {
		const struct option *o = option_at(i);
		_cleanup_(freep) char *value = NULL;

		if (o->section != section || config_value_is_synonym(o))
			continue;
		value = config_value_show(o, base);
		if (value)
			config_show_line(out, indent, o->name, value,
					 option_origin(config_show_source(o, base), base));
	}
}

static void config_show_head(FILE *out, const char *kind, const char *name, const char *origin)
{
	_cleanup_(freep) char *left = xasprintf("%s \"%s\" {", kind, name);

	fprintf(out, "%-*s # %s\n", CONFIG_SHOW_COLUMN, left, origin);
}

static void config_show_master_key(FILE *out, const struct config *c)
{
	const struct option *file = option_find(SECTION_UPSTREAM, "master_key_file");

	switch (c->master_key_source) {
	case MASTER_KEY_NONE:
		fprintf(out, "    # no master key\n");
		break;
	case MASTER_KEY_CREDENTIAL:
		fprintf(out, "    # master key: (set, from CREDENTIALS_DIRECTORY)\n");
		break;
	case MASTER_KEY_FILE:
		fprintf(out, "    # master key: (set, from the file of %s)\n",
			option_origin(file, c));
		break;
	case MASTER_KEY_ENV:
		fprintf(out, "    # master key: (set, from LITELLM_MASTER_KEY)\n");
		break;
	}
}

static void config_show_profile(FILE *out, const struct config *c, const struct profile *p)
{
	_cleanup_(freep) char *url = config_base_url(c, p, NULL);

	config_show_head(out, "profile", p->name, p->origin.text);
	config_show_section(out, SECTION_PROFILE, p, "    ");
	for (int i = SECTION_KEY; i <= SECTION_TEAM; i++) {
		enum option_section section = (enum option_section)i;

		if (!config_value_any(section, p))
			continue;
		fprintf(out, "    %s {\n", option_section_name(section));
		config_show_section(out, section, p, "        ");
		fprintf(out, "    }\n");
	}
	fprintf(out, "    # base URL handed out: %s\n", url ? url : "none");
	if (p->mode == PROFILE_STATIC)
		fprintf(out, "    # the provider's key: (set, from %s)\n",
			p->key_file ? p->key_file : "OPENAI_API_KEY");
	fprintf(out, "}\n");
}

static void config_show_rules(FILE *out, enum option_section section, const struct rule *rules,
			      size_t n)
{
	for (size_t i = 0; i < n; i++) {
		config_show_head(out, option_section_name(section), rules[i].name,
				 rules[i].origin.text);
		config_show_section(out, section, &rules[i], "    ");
		fprintf(out, "}\n");
	}
}

void config_show(FILE *out, const struct config *c)
{
	config_show_section(out, SECTION_TOP, c, "");
	for (int section = SECTION_UPSTREAM; section <= SECTION_LIMITS; section++) {
		fprintf(out, "%s {\n", option_section_name((enum option_section)section));
		config_show_section(out, (enum option_section)section, c, "    ");
		if (section == SECTION_UPSTREAM)
			config_show_master_key(out, c);
		fprintf(out, "}\n");
	}
	for (size_t i = 0; i < c->n_profiles; i++)
		config_show_profile(out, c, &c->profiles[i]);
	config_show_rules(out, SECTION_RULE, c->rules, c->n_rules);
	config_show_rules(out, SECTION_LISTEN, c->listens, c->n_listens);
	for (size_t i = 0; i < c->n_warnings; i++)
		fprintf(out, "# warning: %s\n", c->warnings[i]);
}
