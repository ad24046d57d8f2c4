/*
 * A revocation that waits until upstream has said what became of its keys, so that its answer is
 * the truth: each key's first deletion (or blocking) is confirmed, has failed, or takes too long.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

struct daemon;
struct key;
struct revoke_wait;

/* Comes once, from the loop, never from within revoke_wait_start(): that many keys are not
 * confirmed to be gone. */
typedef void (*revoke_wait_fn)(void *userdata, int64_t unconfirmed);

struct revoke_wait *revoke_wait_new(struct daemon *d, revoke_wait_fn done, void *userdata);
/* NULL will do. Before `done` has come: it does not come. */
void revoke_wait_free(struct revoke_wait *w);
void revoke_wait_add(struct revoke_wait *w, const struct key *k);
/* All keys were added, and are on their way. */
void revoke_wait_start(struct revoke_wait *w);
/* For retire.c: upstream has answered, or could not be asked. */
void revoke_wait_told(const struct key *k, bool confirmed);
/* A clean stop: all are answered as it is now. */
void revoke_wait_stop(struct daemon *d);
