/*
 * What to ask of LiteLLM's admin API and what its answers mean. Pure: text in, values out. The
 * rules come from answers recorded from LiteLLM 1.80.11 and 1.102.4 (tests/standin/recorded), never
 * from the documentation.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/crypt.h"
#include "base/macros.h"
#include "core/config.h"
#include "core/key.h"
#include "core/litellm_team.h"

struct json;

enum litellm_op {
	LITELLM_GENERATE,  /* POST /key/generate */
	LITELLM_INFO,	   /* GET /key/info?key=<sha256> */
	LITELLM_UPDATE,	   /* POST /key/update: prolong or rename */
	LITELLM_BLOCK,	   /* POST /key/block */
	LITELLM_DELETE,	   /* POST /key/delete, one hash */
	LITELLM_LIST,	   /* GET /key/list?user_id=… or key_alias=…, one page, full objects */
	LITELLM_TEAM_NEW,  /* POST /team/new */
	LITELLM_TEAM_INFO, /* GET /v2/team/list?team_id=: OK (teams[0]) or, proved, GONE */
	LITELLM_TEAM_FIND, /* GET /v2/team/list?team_alias=, one page */
	LITELLM_TEAM_UPDATE, /* POST /team/update: limits */
};

enum litellm_kind {
	LITELLM_OK,
	LITELLM_EXISTS,	 /* GENERATE, UPDATE: the alias is taken; TEAM_NEW: the team_id is */
	LITELLM_GONE,	 /* proved: there is no such key or team (trap 2: never by the status) */
	LITELLM_REFUSED, /* a final no; `message` says why */
	LITELLM_FORBIDS_KEY,  /* GENERATE: chosen keys are forbidden (disable_custom_api_keys) */
	LITELLM_UNAUTHORIZED, /* the master key is rejected; proves nothing about any other key */
	LITELLM_UNAVAILABLE,  /* down, hanging, 5xx, 429, or no proof of anything: try again */
};

#define LITELLM_MESSAGE_MAX 512

/* One key as /key/info or /key/list describe it. */
struct litellm_key {
	char hash[SHA256_HEX_SIZE];
	char alias[ALIAS_MAX];
	char team_id[TEAM_ID_MAX];
	char user_id[128];
	bool blocked;
	int64_t expires_at_ms; /* Unix, upstream's clock; 0: never */
	int64_t created_at_ms;
	char install[64];     /* metadata.keybroker.install; "" if it isn't a broker's */
	char intent[ID_SIZE]; /* metadata.keybroker.intent */
	int64_t spend_micros, max_budget_micros; /* millionths of a dollar; < 0: no budget */
};

struct litellm_answer {
	enum litellm_kind kind;
	char message[LITELLM_MESSAGE_MAX]; /* upstream's words, without credentials; "" if OK */
	struct litellm_key key;		   /* INFO, UPDATE, BLOCK */
	char **models;		  /* INFO; owned, as its texts; NULL: not known; n_models 0: all */
	struct secret *chosen;	  /* GENERATE: the key, of use where upstream chose it; owned */
	struct litellm_key *keys; /* LIST; owned */
	size_t n_models, n_keys, n_teams;
	struct litellm_team
		*teams;		/* TEAM_FIND: the one of exactly the alias asked for, if any
				   (several: REFUSED); TEAM_NEW, _INFO, _UPDATE: the one; owned */
	int64_t total_pages;	/* LIST, TEAM_FIND */
	int64_t retry_after_ms; /* UNAVAILABLE: what upstream asked for; 0: nothing */
};

void litellm_answer_deinit(struct litellm_answer *a);
/* What is known of one HTTP answer. */
struct litellm_reply {
	long status;	  /* 0: none came (time-out, broken connection) */
	const char *body; /* of `n` bytes */
	size_t n;
};
/*
 * `asked_alias`: TEAM_FIND's exact alias, else NULL. `master`: the master key, which no message
 * will hold. Any body is fine: what cannot be read as the operation demands is UNAVAILABLE.
 */
void litellm_judge(enum litellm_op op, const struct litellm_reply *reply, const char *asked_alias,
		   const char *master, struct litellm_answer *ret);

const char *litellm_method(enum litellm_op op);
const char *litellm_path(enum litellm_op op);
/* Requests: the body (json_text_free()) or the path with its query (free()); NULL: no memory */
struct litellm_mint {
	const struct secret *key; /* NULL: upstream chooses */
	const char *alias, *user_id, *team_id, *duration, *install,
		*intent; /* team_id, duration: NULL for none */
	char *const *models;
	size_t n_models;
	const struct key_limits *limits; /* may be NULL */
	bool blocked;			 /* burn */
};
char *litellm_mint_body(const struct litellm_mint *m) _must_check_;
/* `duration` or `alias` may be NULL: no null fields are sent (trap 4). */
char *litellm_update_body(const char *hash, const char *duration, const char *alias) _must_check_;
char *litellm_block_body(const char *hash) _must_check_;
char *litellm_delete_body(const char *hash) _must_check_;
char *litellm_info_path(const char *hash) _must_check_;
/* By user_id or, if that is NULL, by the exact key_alias. `page` from 1. */
char *litellm_list_path(const char *user_id, const char *key_alias, int page) _must_check_;

/* "2026-11-22T01:58:16.605073Z", any length of fraction or none, Z or ±hh:mm. -EINVAL (not logged).
 */
int litellm_parse_time(const char *text, int64_t *ret_ms) _must_check_;
