/*
 * Hash tables: uthash with a keyed SipHash, since peers choose some of the keys. Include this,
 * never uthash.h.
 */
#pragma once

#include <stddef.h>

unsigned map_hash(const void *key, size_t n);

/* uthash ends the process when memory is gone; that is what core, io and daemon do anyway. */
#define HASH_FUNCTION(keyptr, keylen, hashv) ((hashv) = map_hash((keyptr), (keylen)))
#include <uthash.h>
