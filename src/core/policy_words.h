/* Rules and peers in words: for denials, `explain` and the audit. No syscalls, no secrets. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "core/policy.h"

#define POLICY_WHY_SIZE 512

/* What the broker sees of a peer: "uid 1000, gid 1000, pid 77, unit web.service". */
void policy_words_peer(const struct peer *peer, char *ret, size_t size);
/*
 * Why a rule does not decide about a peer: `miss` is policy_rule_miss()'s, and not POLICY_FITS.
 * `full`: with what the rule wants, for administrators; others learn only which thing it is.
 */
void policy_words_miss(const struct rule *rule, const struct peer *peer, enum policy_miss miss,
		       bool full, char ret[POLICY_WHY_SIZE]);
/* For the audit: which rules would have allowed the profile, and what each of them misses. */
void policy_words_denied(const struct config *c, const struct peer *peer, const char *profile,
			 char *ret, size_t size);
