/*
 * Who reads the audit at the moment: pages that are being collected (audit_read) and followers
 * (audit_follow). All of them together look at a bounded number of rows a turn, one after the
 * other, so that none keeps the loop from the others' requests. A follower is a place in the audit
 * and no queue: what its peer does not take now it is given later, from the store.
 */
#pragma once

#include <stdbool.h>

#include "base/macros.h"

struct daemon;
struct readers;

struct readers *readers_new(struct daemon *d);
void readers_free(struct readers *rs); /* ends what is left, without a word */
DEFINE_CLEANUP(struct readers, readers)

/* Goes on with them: once a turn, when its rows are committed. */
void readers_run(struct readers *rs);
/* Is there more to be done at once? */
bool readers_are_busy(const struct readers *rs);
/* A clean stop: pages end with not_leader; followers are given rows to the last. */
void readers_stop(struct readers *rs);
