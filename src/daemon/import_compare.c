/*
 * What upstream and the file say of a key against what the profile says. A difference is no reason
 * to refuse it, since it is in use as it is; but whoever imports it must hear that limits which the
 * profile promises do not hold.
 */
#include "daemon/import_compare.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "core/config.h"
#include "core/litellm.h"

enum { IMPORT_COMPARE_MODELS = 5 }; /* as many are named */

struct import_differences {
	char **texts;
	size_t n;
};

static void import_compare_say(struct import_differences *all, char *text)
{
	all->texts = xrealloc(all->texts, all->n + 1, sizeof(*all->texts));
	all->texts[all->n++] = text;
}

static bool import_compare_has(char *const *names, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

static bool import_compare_same_models(const struct litellm_answer *a, const struct profile *p)
{
	bool same = a->n_models > 0;

	for (size_t i = 0; i < a->n_models; i++)
		same = same && import_compare_has(p->models, p->n_models, a->models[i]);
	for (size_t i = 0; i < p->n_models; i++)
		same = same && import_compare_has(a->models, a->n_models, p->models[i]);
	return same;
}

static char *import_compare_join(char *const *names, size_t n)
{
	char *all = xstrdup(n ? names[0] : "every model");

	for (size_t i = 1; i < n && i < IMPORT_COMPARE_MODELS; i++) {
		char *longer = xasprintf("%s, %s", all, names[i]);

		free(all);
		all = longer;
	}
	if (n > IMPORT_COMPARE_MODELS) {
		char *longer = xasprintf("%s and %zu more", all, n - IMPORT_COMPARE_MODELS);

		free(all);
		all = longer;
	}
	return all;
}

static void import_compare_models(const struct import_compare *c, struct import_differences *all)
{
	_cleanup_(freep) char *has = NULL, *wanted = NULL;

	if (!c->found->models || import_compare_same_models(c->found, c->profile))
		return;
	has = import_compare_join(c->found->models, c->found->n_models);
	wanted = import_compare_join(c->profile->models, c->profile->n_models);
	import_compare_say(all, xasprintf("the key may use %s; profile %s says %s", has,
					  c->profile->name, wanted));
}

static void import_compare_team(const struct import_compare *c, struct import_differences *all)
{
	const char *team = c->found->key.team_id;
	const char *named = c->profile->team_id ? c->profile->team_id : c->profile->team_alias;
	bool differs = named ? !*team : *team != '\0';

	if (named && *team && c->own_team)
		differs = strcmp(team, c->own_team) != 0;
	if (differs)
		import_compare_say(all,
				   xasprintf("the key belongs to %s%s; profile %s has %s%s",
					     *team ? "team " : "no team", team, c->profile->name,
					     named ? "team " : "none", named ? named : ""));
	if (c->file_team && strcmp(c->file_team, team) != 0)
		import_compare_say(all,
				   xasprintf("the file says team %s, LiteLLM says %s", c->file_team,
					     *team ? team : "that the key belongs to none"));
}

/* The old provisioner wrote what it was given; only one of the two may have the "/v1". */
static bool import_compare_same_url(const char *a, const char *b)
{
	static const char tail[] = "/v1";
	size_t n = strlen(a), m = strlen(b);

	n -= n > 0 && a[n - 1] == '/';
	n -= n >= 3 && strncmp(a + n - 3, tail, 3) == 0 ? 3 : 0;
	m -= m >= 3 && strncmp(b + m - 3, tail, 3) == 0 ? 3 : 0;
	return n == m && memcmp(a, b, n) == 0;
}

static void import_compare_url(const struct import_compare *c, struct import_differences *all)
{
	_cleanup_(freep) char *base_url = config_base_url(c->config, c->profile, NULL);

	if (c->file_url && !import_compare_same_url(c->file_url, base_url))
		import_compare_say(
			all,
			xasprintf("the key was used with another base URL than the one that this "
				  "broker hands out, %s",
				  base_url));
}

char **import_compare(const struct import_compare *c, size_t *ret_n)
{
	struct import_differences all = { 0 };

	import_compare_team(c, &all);
	import_compare_models(c, &all);
	import_compare_url(c, &all);
	*ret_n = all.n;
	return all.texts;
}
