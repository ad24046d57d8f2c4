/*
 * Requests to LiteLLM's admin API: bodies and paths. No body has a null field (trap 4: a null
 * duration takes the expiry away), and none lists several keys or deletes by alias (traps 6, 10).
 */
#include "core/litellm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/secret.h"

/* LiteLLM's own word for "no model at all": an empty list would mean every model (trap 8). */
#define LITELLM_NO_MODELS "no-default-models"
#define LITELLM_PAGE 100 /* the largest page that it serves */

static const struct {
	const char *method, *path;
} litellm_ops[] = {
	[LITELLM_GENERATE] = { "POST", "/key/generate" },
	[LITELLM_INFO] = { "GET", "/key/info" },
	[LITELLM_UPDATE] = { "POST", "/key/update" },
	[LITELLM_BLOCK] = { "POST", "/key/block" },
	[LITELLM_DELETE] = { "POST", "/key/delete" },
	[LITELLM_LIST] = { "GET", "/key/list" },
	[LITELLM_TEAM_NEW] = { "POST", "/team/new" },
	[LITELLM_TEAM_INFO] = { "GET", "/v2/team/list" },
	[LITELLM_TEAM_FIND] = { "GET", "/v2/team/list" },
	[LITELLM_TEAM_UPDATE] = { "POST", "/team/update" },
};

const char *litellm_method(enum litellm_op op)
{
	return litellm_ops[op].method;
}

const char *litellm_path(enum litellm_op op)
{
	return litellm_ops[op].path;
}

/* A body in the making: after the first failure nothing more is added, and the text is NULL. */
struct litellm_body {
	struct json *doc;
	int r;
};

static struct litellm_body litellm_body_new(void)
{
	struct litellm_body b = { .doc = json_new_object() };

	b.r = b.doc ? 0 : -ENOMEM;
	return b;
}

static void litellm_put(struct litellm_body *b, const char *name, const char *value)
{
	if (b->r == 0 && value)
		b->r = json_set_text(b->doc, name, value);
}

/* Negative is "not set", as in struct key_limits. */
static void litellm_put_int(struct litellm_body *b, const char *name, int64_t value)
{
	if (b->r == 0 && value >= 0)
		b->r = json_set_int(b->doc, name, value);
}

static void litellm_put_list(struct litellm_body *b, const char *name, char *const *items, size_t n)
{
	struct json *list = json_new_array();

	for (size_t i = 0; i < n && b->r == 0; i++)
		b->r = json_add_text(list, items[i]);
	if (b->r == 0)
		b->r = json_set(b->doc, name, list);
	else
		json_free(list);
}

static char *litellm_body_text(struct litellm_body *b)
{
	char *text = b->r == 0 ? json_dump(b->doc) : NULL;

	json_free(b->doc);
	return text;
}

/* {"keybroker": {install, intent}}: by this a key upstream is known to be ours. */
static void litellm_put_metadata(struct litellm_body *b, const struct litellm_mint *m)
{
	struct litellm_body ours = litellm_body_new(), outer = litellm_body_new();

	litellm_put(&ours, "install", m->install);
	litellm_put(&ours, "intent", m->intent);
	if (b->r == 0)
		b->r = ours.r ? ours.r : outer.r;
	if (b->r == 0)
		b->r = json_set(outer.doc, "keybroker", TAKE(ours.doc));
	if (b->r == 0)
		b->r = json_set(b->doc, "metadata", TAKE(outer.doc));
	json_free(ours.doc);
	json_free(outer.doc);
}

static void litellm_put_limits(struct litellm_body *b, const struct key_limits *limits)
{
	if (b->r == 0 && limits->max_budget >= 0)
		b->r = json_set_number(b->doc, "max_budget", limits->max_budget);
	litellm_put_int(b, "rpm_limit", limits->rpm_limit);
	litellm_put_int(b, "tpm_limit", limits->tpm_limit);
	litellm_put(b, "budget_duration", limits->budget_duration);
}

char *litellm_mint_body(const struct litellm_mint *m)
{
	char none[] = LITELLM_NO_MODELS;
	char *const no_models[] = { none };
	struct litellm_body b = litellm_body_new();

	litellm_put(&b, "key", m->key ? secret_text(m->key) : NULL);
	litellm_put(&b, "key_alias", m->alias);
	litellm_put(&b, "key_type", "llm_api");
	litellm_put(&b, "user_id", m->user_id);
	litellm_put(&b, "team_id", m->team_id);
	litellm_put(&b, "duration", m->duration);
	litellm_put_list(&b, "models", m->n_models ? m->models : no_models,
			 m->n_models ? m->n_models : 1);
	litellm_put_metadata(&b, m);
	if (m->limits)
		litellm_put_limits(&b, m->limits);
	if (b.r == 0 && m->blocked)
		b.r = json_set_bool(b.doc, "blocked", true);
	return litellm_body_text(&b);
}

char *litellm_update_body(const char *hash, const char *duration, const char *alias)
{
	struct litellm_body b = litellm_body_new();

	litellm_put(&b, "key", hash);
	litellm_put(&b, "duration", duration);
	litellm_put(&b, "key_alias", alias);
	return litellm_body_text(&b);
}

char *litellm_block_body(const char *hash)
{
	return litellm_update_body(hash, NULL, NULL);
}

char *litellm_delete_body(const char *hash)
{
	struct litellm_body b = litellm_body_new();
	char copy[SHA256_HEX_SIZE];
	char *const keys[] = { copy };

	(void)snprintf(copy, sizeof(copy), "%s", hash);
	litellm_put_list(&b, "keys", keys, 1);
	return litellm_body_text(&b);
}

char *litellm_team_body(const char *team_id, const char *team_alias, const char *install,
			const struct key_limits *limits)
{
	const struct litellm_mint mark = { .install = install };
	struct litellm_body b = litellm_body_new();

	litellm_put(&b, "team_id", team_id);
	litellm_put(&b, "team_alias", team_alias);
	litellm_put_metadata(&b, &mark);
	if (limits)
		litellm_put_limits(&b, limits);
	return litellm_body_text(&b);
}

char *litellm_team_update_body(const char *team_id, const struct key_limits *limits)
{
	struct litellm_body b = litellm_body_new();

	litellm_put(&b, "team_id", team_id);
	litellm_put_limits(&b, limits);
	return litellm_body_text(&b);
}

/* Percent-encoded for a query. */
static char *litellm_escape(const char *text)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789-._~";
	char *out = xcalloc(strlen(text) * 3 + 1, 1);
	char *to = out;

	for (const char *p = text; *p; p++) {
		if (strchr(plain, *p))
			*to++ = *p;
		else
			to += sprintf(to, "%%%02X", (unsigned char)*p);
	}
	return out;
}

char *litellm_info_path(const char *hash)
{
	_cleanup_(freep) char *key = litellm_escape(hash);

	return xasprintf("%s?key=%s", litellm_path(LITELLM_INFO), key);
}

char *litellm_list_path(const char *user_id, const char *key_alias, int page)
{
	_cleanup_(freep) char *value = litellm_escape(user_id ? user_id : key_alias);

	return xasprintf("%s?%s=%s&page=%d&size=%d&return_full_object=true",
			 litellm_path(LITELLM_LIST), user_id ? "user_id" : "key_alias", value, page,
			 LITELLM_PAGE);
}

/* Not /team/info, which answers 404 for every team while the database is down (trap 2): the list
 * is 500 then, and an empty one proves that there is no such team. */
char *litellm_team_info_path(const char *team_id)
{
	_cleanup_(freep) char *id = litellm_escape(team_id);

	return xasprintf("%s?team_id=%s&page=1&page_size=%d", litellm_path(LITELLM_TEAM_INFO), id,
			 LITELLM_PAGE);
}

char *litellm_team_find_path(const char *team_alias, int page)
{
	_cleanup_(freep) char *alias = litellm_escape(team_alias);

	return xasprintf("%s?team_alias=%s&page=%d&page_size=%d", litellm_path(LITELLM_TEAM_FIND),
			 alias, page, LITELLM_PAGE);
}
