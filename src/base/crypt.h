/*
 * All cryptography of the broker, over libsodium. The root is the 32-byte seal key; everything else
 * is derived from it by crypto_kdf (context "keybrkr1": subkey 1 seals, 2 chains the audit, 3 tags
 * keys), so that the audit key can be given away alone.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

struct secret;

#define SEAL_KEY_SIZE 32
#define HASH_SIZE 32
#define HASH_HEX_SIZE (2 * HASH_SIZE + 1)
#define AUDIT_KEY_SIZE 32
#define SHA256_HEX_SIZE 65	/* 64 digits and the NUL */
#define ID_SIZE 17		/* 16 characters of base62 (95 bits) and the NUL */
#define SEAL_OVERHEAD (24 + 16) /* XChaCha20-Poly1305: nonce and tag */

/* Must be called once, before anything else here. -ENOSYS if libsodium cannot start. */
int crypt_init(void) _must_check_;

/* The keys derived from one seal key; opaque, in guarded memory. */
struct keyring;
/* `seal_key` has SEAL_KEY_SIZE bytes and stays the caller's. -EINVAL for another size, -ENOMEM. */
int keyring_new(struct keyring **ret, const struct secret *seal_key) _must_check_;
void keyring_free(struct keyring *k);
DEFINE_CLEANUP(struct keyring, keyring)
/* Fingerprint of the seal key for `meta`: tells two apart, tells nothing of the key. Hex, 33 bytes
 * with the NUL. */
void keyring_fingerprint(const struct keyring *k, char ret_hex[33]);
/* The audit key alone, AUDIT_KEY_SIZE bytes, for offline verification. */
struct secret *keyring_audit_key(const struct keyring *k) _must_check_;
/* A keyring of the audit key alone: keyring_chain() is right with it, all else is by chance.
 * -EINVAL for another size, -ENOMEM. */
int keyring_new_audit(struct keyring **ret, const struct secret *audit_key) _must_check_;

/*
 * Seals `plain` for one place: `place` (for example "key/<id>/secret") is bound as additional data,
 * so that a sealed value moved to another row does not open. `ret` has room for secret_len(plain) +
 * SEAL_OVERHEAD bytes.
 */
void keyring_seal(const struct keyring *k, const char *place, const struct secret *plain,
		  uint8_t *ret);
/* -EBADMSG if it was changed, moved or sealed with another key (not logged: the caller knows the
 * place). */
int keyring_open(const struct keyring *k, const char *place, const uint8_t *sealed, size_t n,
		 struct secret **ret) _must_check_;

/* Keyed BLAKE2b over `previous` and `row`: the chain value of an audit row. */
void keyring_chain(const struct keyring *k, const uint8_t previous[HASH_SIZE], const void *row,
		   size_t n, uint8_t ret[HASH_SIZE]);
/* Keyed tag of a key's SHA-256 (hex): what the audit holds in place of the key. 32 hex digits and
 * the NUL. */
void keyring_tag(const struct keyring *k, const char *sha256_hex, char ret_hex[33]);

void crypt_sha256_hex(const void *data, size_t n, char ret[SHA256_HEX_SIZE]);
void crypt_hex(const uint8_t *data, size_t n, char *ret);
/* Reads exactly `2 * n` hex digits, of either case. -EINVAL (not logged); `ret` may have been
 * written. */
int crypt_unhex(const char *hex, uint8_t *ret, size_t n) _must_check_;
/* SHA-256 of the secret's bytes: LiteLLM's name of a key. */
void crypt_key_hash(const struct secret *key, char ret[SHA256_HEX_SIZE]);
/* A fresh LiteLLM key: "sk-" and base62 of 32 random bytes (43 characters). NULL without memory. */
struct secret *crypt_draw_key(void) _must_check_;
/* A fresh identifier of ID_SIZE - 1 base62 characters. */
void crypt_draw_id(char ret[ID_SIZE]);
void crypt_random(void *ret, size_t n);
void crypt_wipe(void *p, size_t n);
