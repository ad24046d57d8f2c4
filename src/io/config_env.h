/*
 * The variables that configure the broker, taken once at the start: their secrets are then wiped
 * from the process's environment, so a reload works with this copy.
 */
#pragma once

#include <stdbool.h>

#include "base/macros.h"

/* Of no effect; warned of once, not at each reload. */
#define CONFIG_ENV_NO_EFFECT "LITELLM_TOKEN_LOCK_STALE_MS"

struct config;
struct config_env;
struct config_report;
struct secret;

/* Reads them all. -ENOMEM. */
int config_env_new(struct config_env **ret) _must_check_;
void config_env_free(struct config_env *env);
DEFINE_CLEANUP(struct config_env, config_env)
/*
 * Takes LITELLM_MASTER_KEY, OPENAI_API_KEY and LITELLM_SALT_KEY out, bytes and all. To be called
 * first thing, right after config_env_new().
 */
void config_env_scrub(void);

/* For config_load.c. `env` may be NULL, which sets nothing. */

/* LITELLM_MASTER_KEY; NULL if unset or empty. Borrowed. */
const struct secret *config_env_master_key(const struct config_env *env);
/* The options of the whole broker. `skip_admin`: a flag has named the clients' socket already. */
void config_env_apply(const struct config_env *env, bool skip_admin, struct config *c,
		      struct config_report *report);
/* The profiles `service` and `process`, where there is LiteLLM to make their keys, or `always`. */
void config_env_apply_profiles(const struct config_env *env, bool always, struct config *c,
			       struct config_report *report);
/* Rules where no file says any: the daemon's own uid and the group keybroker-clients. */
void config_env_apply_rules(struct config *c, struct config_report *report);
