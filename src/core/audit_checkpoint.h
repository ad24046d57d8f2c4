/*
 * What a prune leaves of the rows it took away: the end of them, signed with the audit key, from
 * which the chain of those that remain is verified.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/crypt.h"

struct audit_checkpoint {
	uint64_t sequence;	 /* of the last row that was taken away; 0: none ever was */
	uint8_t hash[HASH_SIZE]; /* its chain value */
	uint64_t count;		 /* rows taken away in all */
	int64_t pruned_at_ms;
	uint8_t mac[HASH_SIZE]; /* over all of the above, and the install */
};

/* `install`: the state's, so that no checkpoint of another one passes in its place. */
void checkpoint_sign(const struct keyring *k, const char *install,
		     struct audit_checkpoint *checkpoint);
/* Also if it was signed before signatures had the install: the next claim signs it anew. */
bool checkpoint_is_genuine(const struct keyring *k, const char *install,
			   const struct audit_checkpoint *checkpoint);

/*
 * Signs `n` bytes of a kind of their own, such as a checkpoint or the end of an export, with the
 * audit key. `kind`: up to HASH_SIZE - 1 bytes; no row of the audit has such a signature.
 */
void audit_sign(const struct keyring *k, const char *kind, const void *data, size_t n,
		uint8_t ret[HASH_SIZE]);
