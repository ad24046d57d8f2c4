/* SipHash-2-4 with a key drawn at first use: a peer that chooses keys cannot choose collisions. */
#include "base/map.h"

#include <sodium.h>
#include <stdbool.h>
#include <string.h>

unsigned map_hash(const void *key, size_t n)
{
	static unsigned char secret[crypto_shorthash_KEYBYTES];
	static bool drawn;
	unsigned char out[crypto_shorthash_BYTES];
	unsigned h;

	if (!drawn) {
		randombytes_buf(secret, sizeof(secret));
		drawn = true;
	}
	(void)crypto_shorthash(out, key, n, secret); /* always 0 */
	memcpy(&h, out, sizeof(h));
	return h;
}
