/* Teams as LiteLLM describes them, and how they are made and changed. A part of core/litellm.h. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "core/config.h"
#include "core/key.h"

struct litellm_team {
	char id[TEAM_ID_MAX];
	char alias[ALIAS_MAX];
	char install[64];  /* metadata.keybroker.install; "" if no broker made it */
	double max_budget; /* dollars; < 0: none, here and below */
	int64_t rpm_limit, tpm_limit;
	char budget_duration[32]; /* "": none */
	int64_t spend_micros;	  /* millionths of a dollar */
};

/* Bodies (json_text_free()) and paths (free()). `limits` may be NULL; what they don't set is not
 * sent, so an update leaves it. */
char *litellm_team_body(const char *team_id, const char *team_alias, const char *install,
			const struct key_limits *limits) _must_check_;
char *litellm_team_update_body(const char *team_id, const struct key_limits *limits) _must_check_;
char *litellm_team_info_path(const char *team_id) _must_check_;
char *litellm_team_find_path(const char *team_alias, int page) _must_check_;
/* Deterministic team_id of a team alias: "keybroker-" + 32 hex digits of its SHA-256. */
void litellm_team_id(const char *team_alias, char ret[TEAM_ID_MAX]);

/* Does it differ from what `wanted` sets? `ret`: in words, "max_budget is 5, not 10"; else "". */
bool litellm_team_differs(const struct litellm_team *team, const struct key_limits *wanted,
			  char *ret, size_t size);
/* Dollars to millionths, rounded; negative stays. */
int64_t litellm_micros(double dollars);
