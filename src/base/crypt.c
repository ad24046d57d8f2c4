/*
 * Seals, hashes and random draws, all by libsodium. Owns the keyring: four subkeys in one guarded
 * page. Never logs, and never keeps the seal key itself.
 */
#include "base/crypt.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "base/err.h"
#include "base/secret.h"

#define CRYPT_CONTEXT "keybrkr1"
#define CRYPT_NONCE_SIZE crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define CRYPT_KEY_PREFIX "sk-"
/* 62^43 > 2^256: as many values as 32 random bytes have. */
#define CRYPT_KEY_DIGITS 43

static_assert(sizeof(CRYPT_CONTEXT) - 1 == crypto_kdf_CONTEXTBYTES, "context of crypto_kdf");
static_assert(SEAL_KEY_SIZE == crypto_kdf_KEYBYTES, "the seal key is a crypto_kdf key");
static_assert(SEAL_OVERHEAD == CRYPT_NONCE_SIZE + crypto_aead_xchacha20poly1305_ietf_ABYTES,
	      "nonce and tag");

/* The numbers are part of the state's format: never change or reuse one. */
enum crypt_subkey {
	CRYPT_SUBKEY_SEAL = 1,
	CRYPT_SUBKEY_AUDIT,
	CRYPT_SUBKEY_TAG,
	CRYPT_SUBKEY_FINGERPRINT
};

struct keyring {
	uint8_t seal[crypto_aead_xchacha20poly1305_ietf_KEYBYTES];
	uint8_t audit[AUDIT_KEY_SIZE];
	uint8_t tag[HASH_SIZE];
	uint8_t fingerprint[16];
};

int crypt_init(void)
{
	return sodium_init() < 0 ? err_origin(-ENOSYS) : 0;
}

static void crypt_derive(uint8_t *ret, size_t n, enum crypt_subkey id, const uint8_t *seal_key)
{
	int r = crypto_kdf_derive_from_key(ret, n, id, CRYPT_CONTEXT, seal_key);

	assert(r == 0); /* fails for sizes out of range only, and ours are constants */
	(void)r;
}

int keyring_new(struct keyring **ret, const struct secret *seal_key)
{
	const uint8_t *root = (const uint8_t *)secret_text(seal_key);
	struct keyring *k;

	if (secret_len(seal_key) != SEAL_KEY_SIZE)
		return err_origin(-EINVAL);
	k = sodium_malloc(sizeof(*k));
	if (!k)
		return err_origin(-ENOMEM);
	crypt_derive(k->seal, sizeof(k->seal), CRYPT_SUBKEY_SEAL, root);
	crypt_derive(k->audit, sizeof(k->audit), CRYPT_SUBKEY_AUDIT, root);
	crypt_derive(k->tag, sizeof(k->tag), CRYPT_SUBKEY_TAG, root);
	crypt_derive(k->fingerprint, sizeof(k->fingerprint), CRYPT_SUBKEY_FINGERPRINT, root);
	(void)sodium_mprotect_readonly(k); /* a hardening on top: without it all works the same */
	*ret = k;
	return 0;
}

int keyring_new_audit(struct keyring **ret, const struct secret *audit_key)
{
	struct keyring *k;

	if (secret_len(audit_key) != AUDIT_KEY_SIZE)
		return err_origin(-EINVAL);
	k = sodium_malloc(sizeof(*k));
	if (!k)
		return err_origin(-ENOMEM);
	/* what is sealed with a key that nobody knows stays shut: better than with one of zeroes */
	randombytes_buf(k, sizeof(*k));
	memcpy(k->audit, secret_text(audit_key), sizeof(k->audit));
	(void)sodium_mprotect_readonly(k); /* as above */
	*ret = k;
	return 0;
}

void keyring_free(struct keyring *k)
{
	sodium_free(k); /* wipes */
}

void keyring_fingerprint(const struct keyring *k, char ret_hex[33])
{
	crypt_hex(k->fingerprint, sizeof(k->fingerprint), ret_hex);
}

struct secret *keyring_audit_key(const struct keyring *k)
{
	return secret_new(k->audit, sizeof(k->audit));
}

void keyring_seal(const struct keyring *k, const char *place, const struct secret *plain,
		  uint8_t *ret)
{
	/* 192 random bits never repeat in practice: no counter to keep across restarts */
	randombytes_buf(ret, CRYPT_NONCE_SIZE);
	(void)crypto_aead_xchacha20poly1305_ietf_encrypt(
		ret + CRYPT_NONCE_SIZE, NULL, (const uint8_t *)secret_text(plain),
		secret_len(plain), (const uint8_t *)place, strlen(place), NULL, ret, k->seal);
}

int keyring_open(const struct keyring *k, const char *place, const uint8_t *sealed, size_t n,
		 struct secret **ret)
{
	_cleanup_(secret_freep) struct secret *plain = NULL;

	if (n < SEAL_OVERHEAD || n > SECRET_MAX + SEAL_OVERHEAD)
		return -EBADMSG;
	plain = secret_new_empty(n - SEAL_OVERHEAD);
	if (!plain)
		return err_origin(-ENOMEM);
	if (crypto_aead_xchacha20poly1305_ietf_decrypt(secret_bytes(plain), NULL, NULL,
						       sealed + CRYPT_NONCE_SIZE,
						       n - CRYPT_NONCE_SIZE, (const uint8_t *)place,
						       strlen(place), sealed, k->seal) < 0)
		return -EBADMSG;
	*ret = TAKE(plain);
	return 0;
}

void keyring_chain(const struct keyring *k, const uint8_t previous[HASH_SIZE], const void *row,
		   size_t n, uint8_t ret[HASH_SIZE])
{
	crypto_generichash_state state;

	/* `previous` has a fixed size, so that no other (previous, row) gives the same input */
	(void)crypto_generichash_init(&state, k->audit, sizeof(k->audit), HASH_SIZE);
	(void)crypto_generichash_update(&state, previous, HASH_SIZE);
	(void)crypto_generichash_update(&state, row, n);
	(void)crypto_generichash_final(&state, ret, HASH_SIZE);
	sodium_memzero(&state, sizeof(state));
}

void keyring_tag(const struct keyring *k, const char *sha256_hex, char ret_hex[33])
{
	uint8_t tag[16];

	(void)crypto_generichash(tag, sizeof(tag), (const uint8_t *)sha256_hex, strlen(sha256_hex),
				 k->tag, sizeof(k->tag));
	crypt_hex(tag, sizeof(tag), ret_hex);
}

void crypt_sha256_hex(const void *data, size_t n, char ret[SHA256_HEX_SIZE])
{
	uint8_t hash[crypto_hash_sha256_BYTES];

	(void)crypto_hash_sha256(hash, data, n);
	crypt_hex(hash, sizeof(hash), ret);
}

void crypt_hex(const uint8_t *data, size_t n, char *ret)
{
	(void)sodium_bin2hex(ret, 2 * n + 1, data, n);
}

int crypt_unhex(const char *hex, uint8_t *ret, size_t n)
{
	size_t len;

	if (strlen(hex) != 2 * n || sodium_hex2bin(ret, n, hex, 2 * n, NULL, &len, NULL) != 0 ||
	    len != n)
		return -EINVAL;
	return 0;
}

void crypt_key_hash(const struct secret *key, char ret[SHA256_HEX_SIZE])
{
	crypt_sha256_hex(secret_text(key), secret_len(key), ret);
}

/* A byte beyond the last whole round of digits is drawn again rather than favour the first ones.
 * Many bytes at once: each draw is a system call. */
static void crypt_draw_digits(char *ret, size_t n)
{
	static const char digits[] =
		"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	const size_t base = sizeof(digits) - 1;
	uint8_t drawn[64];

	for (size_t done = 0; done < n;) {
		randombytes_buf(drawn, sizeof(drawn));
		for (size_t i = 0; i < sizeof(drawn) && done < n; i++)
			if (drawn[i] < 256 / base * base)
				ret[done++] = digits[drawn[i] % base];
	}
	sodium_memzero(drawn, sizeof(drawn));
}

struct secret *crypt_draw_key(void)
{
	const size_t n_prefix = sizeof(CRYPT_KEY_PREFIX) - 1;
	struct secret *key = secret_new_empty(n_prefix + CRYPT_KEY_DIGITS);
	char *text;

	if (!key)
		return NULL;
	text = secret_bytes(key);
	memcpy(text, CRYPT_KEY_PREFIX, n_prefix);
	crypt_draw_digits(text + n_prefix, CRYPT_KEY_DIGITS);
	return key;
}

void crypt_draw_id(char ret[ID_SIZE])
{
	crypt_draw_digits(ret, ID_SIZE - 1);
	ret[ID_SIZE - 1] = '\0';
}

void crypt_random(void *ret, size_t n)
{
	randombytes_buf(ret, n);
}

void crypt_wipe(void *p, size_t n)
{
	sodium_memzero(p, n);
}
