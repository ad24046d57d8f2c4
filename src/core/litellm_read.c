/*
 * The bodies of good answers, read into values. Strict where a missing field could be taken for
 * good news (an expiry that is not there is not "never"); unknown fields are ignored, since their
 * set changes with the version.
 */
#include "core/litellm_parts.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/secret.h"

static bool litellm_is_hash(const char *text)
{
	return text && strlen(text) == SHA256_HEX_SIZE - 1 &&
	       strspn(text, "0123456789abcdef") == SHA256_HEX_SIZE - 1;
}

/* Absent and null are "". What is too long is cut: it then equals nothing of ours. */
static void litellm_copy(const struct json *node, const char *name, char *ret, size_t size)
{
	const char *text = json_get_text(node, name);

	(void)snprintf(ret, size, "%s", text ? text : "");
}

/* A time that must be there, but may be null. */
static bool litellm_read_time(const struct json *node, const char *name, int64_t *ret_ms)
{
	const struct json *value = json_get(node, name);

	*ret_ms = 0;
	if (!value)
		return false;
	if (json_is_null(value))
		return true;
	if (litellm_parse_time(json_text(value), ret_ms) < 0)
		return false;
	*ret_ms = MAX_OF(*ret_ms, INT64_C(1)); /* long ago, but not null's 0 */
	return true;
}

static int64_t litellm_read_dollars(const struct json *node, const char *name, int64_t otherwise)
{
	double dollars;

	return json_get_number(node, name, &dollars) ? litellm_micros(dollars) : otherwise;
}

/* The fields that /key/info and /key/list have in common; the hash stands elsewhere in each. */
static bool litellm_read_key(const struct json *node, const char *hash, struct litellm_key *ret)
{
	const struct json *ours = json_get(json_get(node, "metadata"), "keybroker");

	*ret = (struct litellm_key){ 0 };
	if (!json_is_object(node) || !litellm_read_time(node, "expires", &ret->expires_at_ms))
		return false;
	(void)litellm_read_time(node, "created_at",
				&ret->created_at_ms); /* for people: 0 will do */
	(void)snprintf(ret->hash, sizeof(ret->hash), "%s", litellm_is_hash(hash) ? hash : "");
	litellm_copy(node, "key_alias", ret->alias, sizeof(ret->alias));
	litellm_copy(node, "team_id", ret->team_id, sizeof(ret->team_id));
	litellm_copy(node, "user_id", ret->user_id, sizeof(ret->user_id));
	litellm_copy(ours, "install", ret->install, sizeof(ret->install));
	litellm_copy(ours, "intent", ret->intent, sizeof(ret->intent));
	ret->blocked = json_get_bool(node, "blocked", false);
	ret->spend_micros = litellm_read_dollars(node, "spend", 0);
	ret->max_budget_micros = litellm_read_dollars(node, "max_budget", -1);
	return true;
}

static bool litellm_read_generate(const struct json *doc, struct litellm_answer *ret)
{
	const char *key = json_get_text(doc, "key");

	if (!key || !*key || !litellm_is_hash(json_get_text(doc, "token")))
		return false;
	ret->chosen = secret_new(key, strlen(key));
	return ret->chosen != NULL;
}

/* For comparison with a profile's. */
static void litellm_read_models(const struct json *models, struct litellm_answer *ret)
{
	if (!json_is_array(models))
		return;
	ret->models = xcalloc(json_len(models) + 1, sizeof(*ret->models));
	for (size_t i = 0; i < json_len(models); i++) {
		const char *name = json_text(json_at(models, i));

		ret->models[ret->n_models++] = xstrdup(name ? name : "?");
	}
}

static bool litellm_read_info(const struct json *doc, struct litellm_answer *ret)
{
	litellm_read_models(json_get(json_get(doc, "info"), "models"), ret);
	return litellm_read_key(json_get(doc, "info"), json_get_text(doc, "key"), &ret->key);
}

/* /key/update and /key/block answer the key's row. */
static bool litellm_read_row(const struct json *doc, struct litellm_answer *ret)
{
	return litellm_read_key(doc, json_get_text(doc, "token"), &ret->key) && *ret->key.hash;
}

static bool litellm_read_block(const struct json *doc, struct litellm_answer *ret)
{
	return litellm_read_row(doc, ret) && ret->key.blocked;
}

static bool litellm_read_delete(const struct json *doc, struct litellm_answer *ret)
{
	const struct json *deleted = json_get(doc, "deleted_keys");

	(void)ret;
	return json_is_array(deleted) && json_len(deleted) == 1;
}

static bool litellm_read_list(const struct json *doc, struct litellm_answer *ret)
{
	const struct json *keys = json_get(doc, "keys");

	if (!json_is_array(keys) || !json_get_int(doc, "total_pages", &ret->total_pages))
		return false;
	ret->keys = xcalloc(json_len(keys), sizeof(*ret->keys));
	for (size_t i = 0; i < json_len(keys); i++) {
		const struct json *item = json_at(keys, i);
		struct litellm_key *key = &ret->keys[ret->n_keys++];

		/* Bare hashes are what comes without return_full_object. */
		if (!litellm_read_key(item, json_get_text(item, "token"), key) || !*key->hash)
			return false;
	}
	return true;
}

static void litellm_read_limits(const struct json *node, struct litellm_team *ret)
{
	ret->max_budget = -1;
	ret->rpm_limit = ret->tpm_limit = -1;
	(void)json_get_number(node, "max_budget", &ret->max_budget);
	(void)json_get_int(node, "rpm_limit", &ret->rpm_limit);
	(void)json_get_int(node, "tpm_limit", &ret->tpm_limit);
	litellm_copy(node, "budget_duration", ret->budget_duration, sizeof(ret->budget_duration));
	ret->spend_micros = litellm_read_dollars(node, "spend", 0);
}

static bool litellm_read_team(const struct json *node, struct litellm_answer *ret)
{
	const struct json *ours = json_get(json_get(node, "metadata"), "keybroker");
	struct litellm_team *team;

	if (!json_get_text(node, "team_id"))
		return false;
	ret->teams = xrealloc(ret->teams, ret->n_teams + 1, sizeof(*ret->teams));
	team = &ret->teams[ret->n_teams++];
	litellm_copy(node, "team_id", team->id, sizeof(team->id));
	litellm_copy(node, "team_alias", team->alias, sizeof(team->alias));
	litellm_copy(ours, "install", team->install, sizeof(team->install));
	litellm_read_limits(node, team);
	return true;
}

static bool litellm_read_team_update(const struct json *doc, struct litellm_answer *ret)
{
	return litellm_read_team(json_get(doc, "data"), ret);
}

/* One page of /v2/team/list. */
static bool litellm_read_teams(const struct json *doc, struct litellm_answer *ret)
{
	const struct json *teams = json_get(doc, "teams");

	if (!json_is_array(teams) || !json_get_int(doc, "total_pages", &ret->total_pages))
		return false;
	for (size_t i = 0; i < json_len(teams); i++)
		if (!litellm_read_team(json_at(teams, i), ret))
			return false;
	return true;
}

/* The filter for an alias matches any part in any case (trap 14): only its namesakes stay. */
static void litellm_keep_alias(struct litellm_answer *a, const char *alias)
{
	size_t n = 0;

	for (size_t i = 0; i < a->n_teams; i++)
		if (alias && strcmp(a->teams[i].alias, alias) == 0)
			a->teams[n++] = a->teams[i];
	a->n_teams = n;
}

/* The filter for an id is exact: several teams would mean that it was not applied. */
static bool litellm_read_team_info(const struct json *doc, struct litellm_answer *ret)
{
	return litellm_read_teams(doc, ret) && ret->n_teams <= 1;
}

bool litellm_read(enum litellm_op op, const struct json *doc, const char *asked,
		  struct litellm_answer *ret)
{
	static bool (*const readers[])(const struct json *doc, struct litellm_answer *ret) = {
		[LITELLM_GENERATE] = litellm_read_generate,
		[LITELLM_INFO] = litellm_read_info,
		[LITELLM_UPDATE] = litellm_read_row,
		[LITELLM_BLOCK] = litellm_read_block,
		[LITELLM_DELETE] = litellm_read_delete,
		[LITELLM_LIST] = litellm_read_list,
		[LITELLM_TEAM_NEW] = litellm_read_team,
		[LITELLM_TEAM_INFO] = litellm_read_team_info,
		[LITELLM_TEAM_FIND] = litellm_read_teams,
		[LITELLM_TEAM_UPDATE] = litellm_read_team_update,
	};

	if (!readers[op](doc, ret))
		return false;
	if (op == LITELLM_TEAM_FIND)
		litellm_keep_alias(ret, asked);
	return true;
}
