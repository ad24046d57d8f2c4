/*
 * The broker's configuration as a plain value: what io/config and io/config_env read, what policy
 * and the daemon decide by. Freed as a whole; a reload makes a new one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/log.h"
#include "base/macros.h"
#include "core/rule.h"
#include "core/timing.h"

struct secret;

#define ALIAS_MAX 256  /* bytes with the NUL */
#define LISTENS_MAX 32 /* listen sections */

enum profile_mode { PROFILE_SHARED, PROFILE_DEDICATED, PROFILE_STATIC };
const char *profile_mode_name(enum profile_mode mode);

/* Limits set on a key (or team); absent: < 0. */
struct key_limits {
	double max_budget;     /* dollars */
	int64_t rpm_limit;     /* requests a minute */
	int64_t tpm_limit;     /* tokens a minute */
	char *budget_duration; /* LiteLLM duration or NULL */
};

struct profile {
	char name[PROFILE_NAME_MAX];
	enum profile_mode mode;
	char **models; /* at least one (static: may be none); each non-empty */
	size_t n_models;
	char *alias; /* template (core/alias.h); shared: constant per host; static: may be NULL */
	char *team_alias; /* NULL: no team by alias */
	char *team_id; /* the operator's own team: never created or changed; wins over team_alias */
	char *duration;		   /* as LiteLLM takes it; NULL: never expires */
	int64_t duration_ms;	   /* of it, months as 30 days; 0: never expires */
	int64_t rotate_every_ms;   /* shared: a new generation this often; 0: never */
	char *base_url;		   /* handed out; NULL: the daemon's */
	char *key_file;		   /* static: file with the provider key (0600), else NULL */
	struct secret *static_key; /* static: the key itself once read; owned */
	int64_t pool;		   /* dedicated: as many keys are kept ready; < 0: none */
	struct key_limits key, team;
	char **origins; /* of each value, see option.h; owned */
	struct origin origin;
};

enum durability { DURABILITY_POWER_LOSS, DURABILITY_CRASH };

enum master_key_source { MASTER_KEY_NONE, MASTER_KEY_CREDENTIAL, MASTER_KEY_FILE, MASTER_KEY_ENV };

struct config {
	/* upstream */
	char *upstream_url; /* without a trailing / or /v1; NULL: static profiles only */
	struct secret *master_key;
	enum master_key_source master_key_source;
	char *master_key_file; /* where reload reads it again; NULL if from the environment */
	char *ca_file;
	bool insecure_http;
	char *openai_base_url; /* OPENAI_BASE_URL: handed out unless rule or profile say more */
	bool cleanup_old_keys;
	/* places */
	char *state_dir;
	char *socket_path;	 /* clients' socket */
	char *admin_socket_path; /* "" is never valid */
	bool system_mode;
	/* behaviour */
	enum durability durability;
	enum log_level log_level;
	int64_t audit_warn_size; /* bytes of the state; 0: no warning */
	struct timing timing;	 /* defaults, the LITELLM_KEY_* variables, the file */
	char *instance;		 /* --instance, default "main" */
	/* limits per uid */
	int64_t max_connections, max_leases, max_buffered_bytes, mints_per_minute;
	int64_t max_requests, requests_per_second;
	struct profile *profiles;
	size_t n_profiles;
	struct rule *rules;
	size_t n_rules;
	struct rule *listens;
	size_t n_listens;

	char **origins;	 /* of each value, see option.h */
	char **warnings; /* what the operator should know at the start; no secrets */
	size_t n_warnings;
};

void config_free(struct config *c);
DEFINE_CLEANUP(struct config, config)

/* Is it one of those that every tutorial uses? */
bool config_master_key_is_well_known(const struct config *c);
/* NULL if there is none of that name. */
const struct profile *config_profile(const struct config *c, const char *name);
/* For one peer: the rule's (`r` may be NULL), the profile's, the daemon's, then upstream's with
 * /v1. Of a static profile its own or OpenAI's: no other host may see that key. free() it. */
char *config_base_url(const struct config *c, const struct profile *p,
		      const struct rule *r) _must_check_;
