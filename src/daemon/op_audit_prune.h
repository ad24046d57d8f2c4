/* The prune of the audit that may be under way: one at a time, in steps between the turns. */
#pragma once

#include "base/macros.h"

struct audit_prune;
struct daemon;

struct audit_prune *audit_prune_new(struct daemon *d);
/* Drops what is under way; its request is not answered. */
void audit_prune_free(struct audit_prune *prune);
DEFINE_CLEANUP(struct audit_prune, audit_prune)
/* Ends what is under way, for a broker that stops: recorded, and its caller may ask the next one.
 */
void audit_prune_stop(struct daemon *d);
