/* Looks at unit files by name; what runs just now says less, since a service may be stopped. */
#include "io/config_units.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "core/config_build.h"
#include "core/option.h"
#include "core/policy.h"

#define CONFIG_UNITS_SYSTEMD "/run/systemd/system" /* is there where it runs: sd_booted(3) */

/* "web@.service" for "web@1.service"; the name itself if it is no instance. */
static char *config_units_template(const char *unit)
{
	const char *at = strchr(unit, '@'), *dot = strrchr(unit, '.');

	return at && dot > at ? xasprintf("%.*s%s", (int)(at - unit + 1), unit, dot)
			      : xstrdup(unit);
}

static bool config_units_in(const char *dir, const char *pattern, const char *template)
{
	DIR *d = opendir(dir);
	const struct dirent *e;
	bool found = false;

	while (d && !found && (e = readdir(d)))
		found = policy_glob_matches(pattern, e->d_name) || strcmp(template, e->d_name) == 0;
	if (d)
		(void)closedir(d); /* fails for no open one only */
	return found;
}

bool config_units_known(const char *pattern, const char *const dirs[], size_t n)
{
	_cleanup_(freep) char *template = config_units_template(pattern);

	for (size_t i = 0; i < n; i++)
		if (config_units_in(dirs[i], pattern, template))
			return true;
	return false;
}

void config_units_judge(struct config *c)
{
	static const char *const dirs[] = {
		"/etc/systemd/system",		 "/run/systemd/system",
		"/run/systemd/transient",	 "/run/systemd/generator",
		"/run/systemd/generator.early",	 "/run/systemd/generator.late",
		"/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
		"/lib/systemd/system",
	};
	bool systemd = access(CONFIG_UNITS_SYSTEMD, F_OK) == 0;

	for (size_t i = 0; i < c->n_rules; i++) {
		const struct rule *r = &c->rules[i];

		if (r->exe && access(r->exe, F_OK) < 0)
			config_add_warning(c, "%s: rule \"%s\" matches nothing today: %s: %s",
					   option_origin(option_find(SECTION_RULE, "exe"), r),
					   r->name, r->exe, strerrordesc_np(errno));
		if (r->unit && systemd && !config_units_known(r->unit, dirs, ARRAY_SIZE(dirs)))
			config_add_warning(
				c, "%s: rule \"%s\": no unit of this host matches \"%s\" today",
				option_origin(option_find(SECTION_RULE, "unit"), r), r->name,
				r->unit);
	}
}
