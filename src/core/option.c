/* Options as values in their structs: setting, defaults, origins. The types are in option_value.c.
 */
#include "core/option.h"

#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "core/config.h"
#include "core/option_value.h"

/* Where the origins of a section's struct are. */
static char ***option_origins(enum option_section section, void *base)
{
	switch (section) {
	case SECTION_TOP:
	case SECTION_UPSTREAM:
	case SECTION_LEASE:
	case SECTION_LIMITS:
		return &((struct config *)base)->origins;
	case SECTION_PROFILE:
	case SECTION_KEY:
	case SECTION_TEAM:
		return &((struct profile *)base)->origins;
	case SECTION_RULE:
	case SECTION_LISTEN:
		return &((struct rule *)base)->origins;
	}
	return NULL;
}

static const char *option_origin_or_null(const struct option *o, const void *base)
{
	/* only read through it */
	char **origins = *option_origins(o->section, (void *)(uintptr_t)base);

	return origins ? origins[o - option_at(0)] : NULL;
}

const char *option_origin(const struct option *o, const void *base)
{
	const char *origin = option_origin_or_null(o, base);

	return origin ? origin : "default";
}

bool option_was_set(const struct option *o, const void *base)
{
	return option_origin_or_null(o, base) != NULL;
}

int option_set(const struct option *o, const char *const *texts, size_t n, void *base,
	       const char *origin, char ret_why[OPTION_WHY_MAX])
{
	char ***origins = option_origins(o->section, base);
	size_t row = (size_t)(o - option_at(0));

	if (n != 1 && o->type != OPTION_LIST)
		return option_value_refuse(ret_why, "takes one value");
	if (option_value_parse(o, texts, n, base, ret_why))
		return OPTION_E_BAD;
	if (!origin)
		return 0;
	if (!*origins)
		*origins = xcalloc(option_count(), sizeof(**origins));
	free((*origins)[row]);
	(*origins)[row] = xstrdup(origin);
	return 0;
}

static void option_set_default(const struct option *o, void *base)
{
	char why[OPTION_WHY_MAX];

	option_value_clear(o, base);
	if (o->fallback && option_value_parse(o, &o->fallback, 1, base, why))
		assert(0 && "a default of the table must be valid");
}

void option_set_defaults(enum option_section section, void *base)
{
	for (size_t i = 0; i < option_count(); i++)
		if (option_at(i)->section == section)
			option_set_default(option_at(i), base);
}

void option_clear_section(enum option_section section, void *base)
{
	for (size_t i = 0; i < option_count(); i++)
		if (option_at(i)->section == section)
			option_value_clear(option_at(i), base);
}

void option_clear_origins(char ***origins)
{
	for (size_t i = 0; *origins && i < option_count(); i++)
		free((*origins)[i]);
	free(*origins);
	*origins = NULL;
}
