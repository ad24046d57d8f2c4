/* Signatures with the audit key. What they cover is part of the state's and the export's format. */
#include "core/audit_checkpoint.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define CHECKPOINT_KIND "keybroker audit checkpoint"
#define CHECKPOINT_INSTALL_MAX 63 /* far more than an install has */

void audit_sign(const struct keyring *k, const char *kind, const void *data, size_t n,
		uint8_t ret[HASH_SIZE])
{
	/* stands where a row has the hash of the row before, which is never a text of ours */
	uint8_t previous[HASH_SIZE] = { 0 };

	assert(strlen(kind) < HASH_SIZE);
	(void)snprintf((char *)previous, sizeof(previous), "%s", kind);
	keyring_chain(k, previous, data, n, ret);
}

/* `install` "": as it was before the install was part of it. */
static void checkpoint_mac(const struct keyring *k, const char *install,
			   const struct audit_checkpoint *c, uint8_t ret[HASH_SIZE])
{
	const uint64_t numbers[] = { c->sequence, c->count, (uint64_t)c->pruned_at_ms };
	uint8_t bytes[sizeof(numbers) + HASH_SIZE + CHECKPOINT_INSTALL_MAX];
	size_t n = 0;

	assert(strlen(install) <= CHECKPOINT_INSTALL_MAX);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		for (int shift = 56; shift >= 0; shift -= 8)
			bytes[n++] = (uint8_t)(numbers[i] >> shift);
	memcpy(bytes + n, c->hash, HASH_SIZE);
	n += HASH_SIZE;
	for (const char *at = install; *at; at++)
		bytes[n++] = (uint8_t)*at;
	audit_sign(k, CHECKPOINT_KIND, bytes, n, ret);
}

void checkpoint_sign(const struct keyring *k, const char *install,
		     struct audit_checkpoint *checkpoint)
{
	checkpoint_mac(k, install, checkpoint, checkpoint->mac);
}

static bool checkpoint_has_mac(const struct keyring *k, const char *install,
			       const struct audit_checkpoint *checkpoint)
{
	uint8_t mac[HASH_SIZE];

	checkpoint_mac(k, install, checkpoint, mac);
	return memcmp(mac, checkpoint->mac, HASH_SIZE) == 0;
}

bool checkpoint_is_genuine(const struct keyring *k, const char *install,
			   const struct audit_checkpoint *checkpoint)
{
	return checkpoint_has_mac(k, install, checkpoint) || checkpoint_has_mac(k, "", checkpoint);
}
