/*
 * The names (aliases) of our keys upstream. LiteLLM's check that an alias is free is racy and
 * counts expired keys, so a name is never relied on: it is for people who read LiteLLM's
 * dashboards.
 */
#pragma once

struct key;

/* The alias of this intent is taken: frees the name by hash, or gives the intent another one; then
 * drives it on. */
void names_resolve(struct key *k);
/* Tells upstream the key's alias; then drives the key, and its profile, on. */
void key_rename(struct key *k);
