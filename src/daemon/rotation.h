/*
 * What rotations ask of leases: a refreshable one takes the next generation and acknowledges it,
 * and a generation that none of them can still be using need not wait for its grace.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct key;
struct lease;
struct profile;
struct shared;

/* Until the profile's `rotate_every` is over for the current key, by the wall clock; INT64_MAX:
 * never; 0: at once, since the key is outdated. */
int64_t rotation_in_ms(const struct shared *s, const struct profile *p);
/* The profile has changed since this key was made. That is not known of one that was imported, or
 * made by a broker that did not write it down. */
bool rotation_is_outdated(const struct key *k, const struct profile *p);
/* The generation that a refreshable lease could have and has not; 0: it has the newest. */
uint64_t rotation_behind(const struct lease *l);
/* How many refreshable leases may still be using this generation: each that has read it, or was
 * granted it, and has not acknowledged a newer one. */
unsigned rotation_unacked(const struct key *k);
/* A newer generation is live, and nobody can still be using this one. */
bool rotation_is_over(const struct key *k);
/* It has ended, and that is committed: nobody waits for it, and who watches is told. */
void rotation_lease_ended(const struct lease *l);
/* Takes away what retires of the profile, whoever holds it (`rotate --now`). */
void rotation_take_old(struct shared *s);
