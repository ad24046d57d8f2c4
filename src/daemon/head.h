/* The end of the audit's chain, in the log: whoever keeps the log can tell later whether the audit
 * was cut off before it. */
#pragma once

#include "base/macros.h"

struct daemon;

/*
 * Writes "audit head SEQUENCE:HASH" (64 hex digits, as `audit verify --head` takes it) if the head
 * has changed since the last time. With durability = crash it is synced first: a head that a power
 * cut takes back would accuse an audit that is whole. Not within a transaction; the outcomes of
 * store_sync().
 */
int head_log(struct daemon *d) _must_check_;
/* The same without a sync, which is no longer possible: the state was taken away. */
void head_say(struct daemon *d);
