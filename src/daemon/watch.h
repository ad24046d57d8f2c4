/*
 * Who wants to hear what becomes of leases (`watch`). A notification waits here until its peer
 * takes it, at most one for each watcher and lease; what has become of it meanwhile is what is
 * told. None carries a key. What is told was committed before.
 */
#pragma once

#include "base/macros.h"

struct daemon;
struct key;
struct lease;
struct watch;

struct watch *watch_new(struct daemon *d);
void watch_free(struct watch *w); /* ends what is left, without a word */
DEFINE_CLEANUP(struct watch, watch)

/* `k` is the current key of its profile now: the refreshable leases that have another are behind.
 */
void watch_rotated(struct watch *w, const struct key *k);
/* It has been handed out, and that is committed: with a key that was replaced in the same turn? */
void watch_begun(struct watch *w, const struct lease *l);
/* It has ended, and that is committed. */
void watch_ended(struct watch *w, const struct lease *l);
/* Tells what there is to tell, as far as the peers take it: once a turn, after its commit. */
void watch_run(struct watch *w);
/* A clean stop: tells all that this instance leads no longer. */
void watch_stop(struct watch *w);
