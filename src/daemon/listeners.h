/*
 * The listening sockets, which outlive every leader: where they come from (the service manager,
 * another instance, or made here), handing them to whoever asks, and noticing that a path is no
 * longer ours. A standby holds them too, but accepts nothing.
 */
#pragma once

#include <stdbool.h>

#include "base/macros.h"

struct config;
struct daemon;
struct leader;
struct listeners;

/* Takes what the service manager passed and opens the private socket. Exit code, as sysexits.h. */
int listeners_new(struct daemon *d) _must_check_;
void listeners_free(struct listeners *l);
/* Does the configuration name other `listen` sockets than there were at the start? The sections
 * that do are made to wait: what they grant is meant for who comes by the other socket. */
bool listeners_differ(const struct listeners *l, struct config *c);
/* A standby looks whether it has the sockets that are at the paths now, and asks for them if not.
 */
/* False: it has none, or not those that are there now; the next look asks again. */
bool listeners_look(struct listeners *l);
/* The leader needs them now: from another instance within timing.handover_ms, else new ones. Then
 * it accepts. Exit code. */
int listeners_serve(struct listeners *l) _must_check_;
/* The leader looks whether the paths are still its own; makes those anew that were removed. */
void listeners_mind(struct listeners *l);
/* Does anybody answer on the private socket of this instance? */
bool listeners_answers(const struct listeners *l, const struct leader *instance);
/* Removes the private socket of an instance that has ended; one that answers stays. */
void listeners_forget(const struct listeners *l, const struct leader *instance);
