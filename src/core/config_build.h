/* Making a struct config and judging it as a whole; for io/config*.c. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/macros.h"
#include "core/config.h"

#define CONFIG_SOCKET_MAX 107 /* bytes of sun_path without the NUL */

/* Where errors go: each names its place, like "keybroker.conf:12" or "LITELLM_MODELS". */
struct config_report {
	void (*error)(void *userdata, const char *origin, const char *message);
	void *userdata;
	size_t n_errors;
};
void config_report_error(struct config_report *report, const char *origin, const char *fmt, ...)
	_printf_(3, 4);

/* All options at their defaults; no profiles, no rules. */
struct config *config_new(void) _must_check_;
/*
 * Adds one with all options at their defaults; the pointer is good until the next is added. NULL if
 * the name has other characters than [A-Za-z0-9._-] or is too long (reported).
 */
struct profile *config_add_profile(struct config *c, const char *name, const char *origin,
				   struct config_report *report);
struct rule *config_add_rule(struct config *c, const char *name, const char *origin,
			     struct config_report *report);
struct rule *config_add_listen(struct config *c, const char *name, const char *origin,
			       struct config_report *report);
/* NULL if there is none. */
struct profile *config_profile_to_change(struct config *c, const char *name);
/* A rule or a listen section: they share their names, since the audit shows either as `rule`. */
struct rule *config_rule_to_change(struct config *c, const char *name);
void config_add_warning(struct config *c, const char *fmt, ...) _printf_(2, 3);

/* What a profile does not say and its mode decides: alias and duration. Before config_validate().
 */
void config_finish_profiles(struct config *c);
/* What needs the whole: each error is reported. The keys have been read before. */
void config_validate(const struct config *c, struct config_report *report);
/* A URL handed out with a LiteLLM key (NULL: none); `origin` is where it was set. */
void config_check_base_url(const struct config *c, const char *url, const char *origin,
			   struct config_report *report);
/* Its part about rules and listen sections. */
void config_validate_rules(const struct config *c, struct config_report *report);
/* Warns of a base URL that sends LiteLLM's keys to another host. */
void config_judge_base_url(struct config *c, const char *url, const char *origin);
void config_judge_rules(struct config *c);
/* Adds the warnings: what is allowed and yet seldom meant. Of a valid config only. */
void config_judge(struct config *c);
