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
struct key_row;
struct upstream_answer;

/* keys.c */
/* Upstream or its credential is another one: what waits to be tried again is tried now. */
void keys_hurry(struct daemon *d);
/* Upstream is at another url: what it does not know are keys of another LiteLLM. */
void keys_move(struct daemon *d);
/* As key_add(), for a key that is yet to be made; draws its secret. */
struct key *key_add_intent(struct daemon *d, const struct key_row *row);
/* After a failure: again later, later each time. */
void key_retry(struct key *k);
/* Whose calls those for this key are, as in struct upstream_question. */
int64_t key_party(const struct key *k);
/* A POST of it has no answer: it is not deleted before that must have come. */
void key_expect_late(struct key *k);
/* Whatever happens to the wall clock: not within timing.burn_delete_ms from now. */
void key_hold_late(struct key *k);
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
#define DURATION_SIZE 24
/* extend.c: the life that it is to have, in LiteLLM's words (in `buf` or the profile's) and in ms;
 * NULL: it never expires by its profile. */
const char *key_duration(const struct key *k, char buf[DURATION_SIZE], int64_t *ret_ms);
/* prolongs if that is due or wanted, else arms the timer for when it will be. */
void key_extend(struct key *k);
/* Does upstream still know it? Asked once per term for keys that were found in the store. */
void key_check(struct key *k);
/* What an answer of OK or GONE proves: why the key is dead, or NULL, and then when it expires by
 * our clock (0: never; -1: it is over by LiteLLM's clock alone, which proves nothing). */
const char *key_death(const struct key *k, const struct upstream_answer *a,
		      int64_t *ret_expires_at_ms);
/* As much of its life may be asked for at any time: it is not prolonged again to make up for less.
 */
int64_t key_reliable_ms(const struct key *k);
/* Upstream has proven that it is dead: a shared profile gets another, a dedicated lease ends. */
void key_died(struct key *k, const char *why);
/* retire.c */
/* Takes a key away now, whoever holds it (revoke). */
void key_kill(struct key *k, const char *why);
void key_retire(struct key *k, int64_t grace_ms, const char *why);
void key_delete_if_due(struct key *k);
/* It is to be deleted or blocked now: nothing else that upstream may hold up comes before that. */
bool key_goes_first(const struct key *k);
