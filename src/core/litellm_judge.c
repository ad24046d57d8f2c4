/*
 * What an answer of LiteLLM means. Never by the status alone: 400, 401 and 404 may all mean that
 * its database is down, and 200 may come from some other server. A negative is believed only where
 * the body proves it; what nothing here knows proves nothing.
 */
#include "core/litellm_parts.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/json.h"
#include "base/secret.h"

#define LITELLM_BIT(op) (1u << (op))
#define LITELLM_ANY (~0u)
#define LITELLM_MINTS (LITELLM_BIT(LITELLM_GENERATE) | LITELLM_BIT(LITELLM_UPDATE))

#define LITELLM_WORDS_MAX ((size_t)64 << 10) /* far more than is ever shown */

/* A row matches if all that it names does; the first that matches decides. */
struct litellm_rule {
	unsigned ops;
	int status;	   /* 0: any that is not 2xx */
	const char *type;  /* error.type; NULL: any */
	const char *words; /* part of the message; NULL: any */
	enum litellm_kind kind;
};

static const struct litellm_rule litellm_rules[] = {
	/* The database is down, whatever the status says (trap 2). */
	{ LITELLM_ANY, 0, "no_db_connection", NULL, LITELLM_UNAVAILABLE },
	{ LITELLM_ANY, 0, NULL, "reach database server", LITELLM_UNAVAILABLE },
	{ LITELLM_ANY, 0, NULL, "database is temporarily unreachable", LITELLM_UNAVAILABLE },
	{ LITELLM_ANY, 0, NULL, "connection attempts failed", LITELLM_UNAVAILABLE },
	{ LITELLM_ANY, 0, NULL, "query engine", LITELLM_UNAVAILABLE },
	{ LITELLM_ANY, 0, NULL, "Server disconnected", LITELLM_UNAVAILABLE },

	/* Taken. The second form is two requests at once; it comes with 500. */
	{ LITELLM_MINTS, 400, NULL, "already exists", LITELLM_EXISTS },
	{ LITELLM_BIT(LITELLM_TEAM_NEW), 400, NULL, "already exists", LITELLM_EXISTS },
	{ LITELLM_MINTS, 500, NULL, "Unique constraint failed", LITELLM_EXISTS },
	{ LITELLM_BIT(LITELLM_TEAM_NEW), 500, NULL, "Unique constraint failed", LITELLM_EXISTS },

	/* Proofs that a key does not exist. The two 401 are 1.80.11's, which says so in words that
	 * it does not use for a wrong master key. /team/info's 404 is no proof of anything. */
	{ LITELLM_BIT(LITELLM_INFO) | LITELLM_BIT(LITELLM_UPDATE) | LITELLM_BIT(LITELLM_BLOCK), 404,
	  "not_found_error", NULL, LITELLM_GONE },
	{ LITELLM_BIT(LITELLM_DELETE), 404, NULL, "No keys found", LITELLM_GONE },
	{ LITELLM_BIT(LITELLM_BLOCK), 401, "token_not_found_in_db", "not found in db. Create key",
	  LITELLM_GONE },
	{ LITELLM_BIT(LITELLM_UPDATE), 401, NULL, "user key does not exist in db", LITELLM_GONE },
	{ LITELLM_BIT(LITELLM_TEAM_INFO) | LITELLM_BIT(LITELLM_TEAM_UPDATE), 404, NULL,
	  "Team not found", LITELLM_UNAVAILABLE },

	/* Durations are refused with 500; /key/update answers 400 to every trouble that it has. */
	{ LITELLM_MINTS, 0, NULL, "Unsupported duration unit", LITELLM_REFUSED },
	{ LITELLM_MINTS, 0, NULL, "Invalid duration format", LITELLM_REFUSED },
	{ LITELLM_MINTS, 0, NULL, "date value out of range", LITELLM_REFUSED },
	{ LITELLM_BIT(LITELLM_UPDATE), 400, "auth_error", NULL, LITELLM_UNAVAILABLE },

	{ LITELLM_BIT(LITELLM_GENERATE), 403, NULL, "Custom API key values are disabled",
	  LITELLM_FORBIDS_KEY },

	/* Our credential: wrong, expired, or not an administrator's. */
	{ LITELLM_ANY, 401, NULL, NULL, LITELLM_UNAUTHORIZED },
	{ LITELLM_ANY, 400, "expired_key", NULL, LITELLM_UNAUTHORIZED },
	{ LITELLM_ANY, 403, NULL, "not allowed to call this route", LITELLM_UNAUTHORIZED },

	{ LITELLM_ANY, 408, NULL, NULL, LITELLM_UNAVAILABLE },
	{ LITELLM_ANY, 429, NULL, NULL, LITELLM_UNAVAILABLE },
};

static bool litellm_rule_matches(const struct litellm_rule *rule, enum litellm_op op, long status,
				 const struct litellm_error *error)
{
	return (rule->ops & LITELLM_BIT(op)) && (rule->status == 0 || rule->status == status) &&
	       (!rule->type || strcmp(rule->type, error->type) == 0) &&
	       (!rule->words || strcasestr(error->words, rule->words));
}

static enum litellm_kind litellm_kind_of(enum litellm_op op, long status,
					 const struct litellm_error *error)
{
	for (size_t i = 0; i < ARRAY_SIZE(litellm_rules); i++)
		if (litellm_rule_matches(&litellm_rules[i], op, status, error))
			return litellm_rules[i].kind;
	return status >= 400 && status < 500 ? LITELLM_REFUSED : LITELLM_UNAVAILABLE;
}

/* "HTTP 502, not LiteLLM's: <html>…": a proxy in between, or another server altogether. */
static void litellm_judge_foreign(long status, const char *words, struct litellm_answer *ret)
{
	char *text = xasprintf("the answer (HTTP %ld) is not LiteLLM's%s%s", status,
			       *words ? ": " : "", words);

	ret->kind = LITELLM_UNAVAILABLE;
	litellm_say(text, ret->message, sizeof(ret->message));
	json_text_free(text);
}

static void litellm_judge_error(enum litellm_op op, long status, const struct litellm_error *error,
				struct litellm_answer *ret)
{
	ret->kind = litellm_kind_of(op, status, error);
	litellm_say(error->words, ret->message, sizeof(ret->message));
	if (!*ret->message)
		(void)snprintf(ret->message, sizeof(ret->message), "HTTP %ld without a reason",
			       status);
}

/* A redirect is never followed with a credential. Its target is left out: it is the server's text.
 */
static void litellm_judge_redirect(long status, struct litellm_answer *ret)
{
	ret->kind = LITELLM_REFUSED;
	(void)snprintf(
		ret->message, sizeof(ret->message),
		"redirected (HTTP %ld), which is not followed: set the upstream URL to where "
		"LiteLLM itself is",
		status);
}

/* Which of them is meant only a person can say. Their ids are the server's text too. */
static void litellm_judge_several(const char *alias, const char *master, struct litellm_answer *ret)
{
	_cleanup_(buf_deinit) struct buf b = BUF_INIT(0);
	char *words;
	int r = 0;

	for (size_t i = 0; i < ret->n_teams && r == 0; i++)
		r = buf_printf(&b, " %s", ret->teams[i].id);
	words = xasprintf("several teams upstream are called %s: say which with LITELLM_TEAM_ID "
			  "(team_id):%s",
			  alias, r == 0 ? buf_text(&b) : "");
	litellm_answer_deinit(ret);
	ret->kind = LITELLM_REFUSED;
	litellm_hide(words, master);
	litellm_say(words, ret->message, sizeof(ret->message));
	json_text_free(words);
}

static void litellm_judge_good(enum litellm_op op, long status, const struct json *doc,
			       const char *asked, const char *master, struct litellm_answer *ret)
{
	if (!litellm_read(op, doc, asked, ret)) {
		litellm_answer_deinit(ret);
		litellm_judge_foreign(status, "", ret);
		return;
	}
	ret->kind = LITELLM_OK;
	if (op == LITELLM_TEAM_FIND && ret->n_teams > 1)
		litellm_judge_several(asked, master, ret);
	if (op == LITELLM_TEAM_INFO && ret->n_teams == 0) {
		ret->kind = LITELLM_GONE;
		(void)snprintf(ret->message, sizeof(ret->message), "no such team");
	}
}

void litellm_judge(enum litellm_op op, const struct litellm_reply *reply, const char *asked_alias,
		   const char *master, struct litellm_answer *ret)
{
	_cleanup_(json_freep) struct json *doc = NULL;
	long status = reply->status;
	struct litellm_error error;
	bool known;

	*ret = (struct litellm_answer){ .kind = LITELLM_UNAVAILABLE };
	if (status == 0) {
		(void)snprintf(ret->message, sizeof(ret->message), "no answer");
		return;
	}
	if (status >= 300 && status < 400) {
		litellm_judge_redirect(status, ret);
		return;
	}
	doc = json_parse(reply->body, reply->n);
	if (status >= 200 && status < 300) {
		litellm_judge_good(op, status, doc, asked_alias, master, ret);
		return;
	}
	known = litellm_read_error(doc, reply->body, reply->n, &error);
	error.words[strnlen(error.words, LITELLM_WORDS_MAX)] = '\0';
	litellm_hide(error.words, master); /* before anything is cut or taken out of its middle */
	if (known)
		litellm_judge_error(op, status, &error, ret);
	else
		litellm_judge_foreign(status, error.words, ret);
	json_text_free(error.words);
}

void litellm_answer_deinit(struct litellm_answer *a)
{
	secret_free(a->chosen);
	for (size_t i = 0; i < a->n_models; i++)
		free(a->models[i]);
	free(a->models);
	free(a->keys);
	free(a->teams);
	*a = (struct litellm_answer){ 0 };
}
