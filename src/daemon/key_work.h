/*
 * The steps of a key's life, one file each: mint, burn, prolong and check, retire. key_drive()
 * (keys.h) calls them; each ends by driving the key on, or by arming its timer.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "proto/errors.h"

struct audit_row;
struct daemon;
struct key;

/* keys.c: upstream or its credential is another one: what waits to be tried again is tried now. */
void keys_hurry(struct daemon *d);
/* mint.c */
void key_mint(struct key *k);
/* Ends the waiters of an intent with an error; the intent is dropped or burned. */
void key_mint_failed(struct key *k, enum proto_error code, const char *message);
/*
 * Gives an intent up: it is dropped if upstream cannot have heard of it, else burned, after the
 * call under way.
 */
void key_abandon(struct key *k, const char *why);
/*
 * Takes an intent away before anybody has its key (revoke): who waits for it is told so, a shared
 * profile makes another. False: it is becoming a key in this very turn, or is given up already.
 */
bool key_revoke_intent(struct key *k) _must_check_;
/* The intent never became a key: nothing of it is upstream. */
void key_mint_drop(struct key *k, const char *why);
/* burn.c */
void key_burn(struct key *k);
/* extend.c: prolongs if that is due or wanted, else arms the timer for when it will be. */
void key_extend(struct key *k);
/* Does upstream still know it? Asked once per term for keys that were found in the store. */
void key_check(struct key *k);
/* Upstream has proven that it is dead: a shared profile gets another, a dedicated lease ends. */
void key_died(struct key *k, const char *why);
/* retire.c */
/* Takes a key away now, whoever holds it (revoke). */
void key_kill(struct key *k, const char *why);
void key_retire(struct key *k, int64_t grace_ms, const char *why);
void key_delete_if_due(struct key *k);
/* It is to be deleted or blocked now: nothing else that upstream may hold up comes before that. */
bool key_goes_first(const struct key *k);
