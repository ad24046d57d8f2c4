/* Sealing, deriving and drawing. */
#include "test.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/crypt.h"
#include "base/secret.h"

static struct keyring *test_keyring_of(uint8_t fill)
{
	_cleanup_(secret_freep) struct secret *seal_key = NULL;
	uint8_t bytes[SEAL_KEY_SIZE];
	struct keyring *k = NULL;

	memset(bytes, fill, sizeof(bytes));
	seal_key = secret_new(bytes, sizeof(bytes));
	assert_non_null(seal_key);
	assert_int_equal(keyring_new(&k, seal_key), 0);
	return k;
}

static int test_init(void **state)
{
	(void)state;
	return crypt_init();
}

static void test_sealed_opens_at_its_place_only(void **state)
{
	_cleanup_(keyring_freep) struct keyring *k = test_keyring_of(1),
						*other = test_keyring_of(2);
	_cleanup_(secret_freep) struct secret *plain = secret_new("sk-abc", 6), *opened = NULL;
	uint8_t sealed[6 + SEAL_OVERHEAD];

	(void)state;
	keyring_seal(k, "key/a/secret", plain, sealed);
	assert_int_equal(keyring_open(k, "key/a/secret", sealed, sizeof(sealed), &opened), 0);
	assert_true(secret_equal(plain, opened));
	secret_free(TAKE(opened));

	assert_int_equal(keyring_open(k, "key/b/secret", sealed, sizeof(sealed), &opened),
			 -EBADMSG);
	assert_int_equal(keyring_open(other, "key/a/secret", sealed, sizeof(sealed), &opened),
			 -EBADMSG);
	assert_int_equal(keyring_open(k, "key/a/secret", sealed, SEAL_OVERHEAD - 1, &opened),
			 -EBADMSG);
	assert_null(opened);
}

static void test_every_changed_byte_is_noticed(void **state)
{
	_cleanup_(keyring_freep) struct keyring *k = test_keyring_of(1);
	_cleanup_(secret_freep) struct secret *plain = secret_new("sk-abc", 6), *opened = NULL;
	uint8_t sealed[6 + SEAL_OVERHEAD];

	(void)state;
	keyring_seal(k, "p", plain, sealed);
	for (size_t i = 0; i < sizeof(sealed); i++) {
		sealed[i] ^= 1;
		assert_int_equal(keyring_open(k, "p", sealed, sizeof(sealed), &opened), -EBADMSG);
		sealed[i] ^= 1;
	}
	assert_int_equal(keyring_open(k, "p", sealed, sizeof(sealed), &opened), 0);
}

static void test_sealing_twice_differs(void **state)
{
	_cleanup_(keyring_freep) struct keyring *k = test_keyring_of(1);
	_cleanup_(secret_freep) struct secret *empty = secret_new("", 0), *opened = NULL;
	uint8_t a[SEAL_OVERHEAD], b[SEAL_OVERHEAD];

	(void)state;
	keyring_seal(k, "p", empty, a);
	keyring_seal(k, "p", empty, b);
	assert_memory_not_equal(a, b, sizeof(a));
	assert_int_equal(keyring_open(k, "p", a, sizeof(a), &opened), 0);
	assert_int_equal(secret_len(opened), 0);
}

static void test_seal_key_of_another_size_is_refused(void **state)
{
	_cleanup_(secret_freep) struct secret *shorter = secret_new_empty(SEAL_KEY_SIZE - 1);
	struct keyring *k = NULL;

	(void)state;
	assert_int_equal(keyring_new(&k, shorter), -EINVAL);
	assert_null(k);
	keyring_free(k);
}

/*
 * Changing a derivation would lock everybody out of their state: these values, computed with
 * another implementation of BLAKE2b, stand for ever.
 */
static void test_derived_values_stay_the_same(void **state)
{
	_cleanup_(keyring_freep) struct keyring *k = test_keyring_of(0x42);
	_cleanup_(secret_freep) struct secret *audit = NULL;
	const uint8_t zeroes[HASH_SIZE] = { 0 };
	uint8_t chain[HASH_SIZE];
	char hex[2 * HASH_SIZE + 1];

	(void)state;
	keyring_fingerprint(k, hex);
	assert_string_equal(hex, "fba4f5b98a0af9e532334c6bc07b3d4f");
	keyring_tag(k, "abc", hex);
	assert_string_equal(hex, "ac8cc18ec03299dd67c240ba5c697ad8");
	keyring_chain(k, zeroes, "row", 3, chain);
	crypt_hex(chain, sizeof(chain), hex);
	assert_string_equal(hex,
			    "4fd99a71ec50d0aa1a8698357c020d917148f887ffc018b65ba6a6dc548d2c1b");
	audit = keyring_audit_key(k);
	crypt_hex(secret_bytes(audit), secret_len(audit), hex);
	assert_string_equal(hex,
			    "46f1224cef25e56e988b8682aa114c11dc2c37268e20d00e459eb3f2f8142a43");
}

static void test_fingerprints_tell_seal_keys_apart(void **state)
{
	_cleanup_(keyring_freep) struct keyring *k = test_keyring_of(1),
						*other = test_keyring_of(2);
	char a[33], b[33];

	(void)state;
	keyring_fingerprint(k, a);
	keyring_fingerprint(other, b);
	assert_int_equal(strlen(a), 32);
	assert_string_not_equal(a, b);
}

static void test_chain_depends_on_all_its_inputs(void **state)
{
	_cleanup_(keyring_freep) struct keyring *k = test_keyring_of(1),
						*other = test_keyring_of(2);
	const uint8_t zeroes[HASH_SIZE] = { 0 }, ones[HASH_SIZE] = { 1 };
	uint8_t chain[4][HASH_SIZE];

	(void)state;
	keyring_chain(k, zeroes, "row", 3, chain[0]);
	keyring_chain(k, ones, "row", 3, chain[1]);
	keyring_chain(k, zeroes, "Row", 3, chain[2]);
	keyring_chain(other, zeroes, "row", 3, chain[3]);
	for (size_t i = 1; i < ARRAY_SIZE(chain); i++)
		assert_memory_not_equal(chain[0], chain[i], HASH_SIZE);
}

static void test_sha256_is_the_standard_one(void **state)
{
	_cleanup_(secret_freep) struct secret *key = secret_new("abc", 3);
	char hex[SHA256_HEX_SIZE];

	(void)state;
	crypt_key_hash(key, hex);
	assert_string_equal(hex,
			    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void test_drawn_key_has_the_form_that_litellm_takes(void **state)
{
	_cleanup_(secret_freep) struct secret *a = crypt_draw_key(), *b = crypt_draw_key();

	(void)state;
	assert_int_equal(secret_len(a), 3 + 43);
	assert_memory_equal(secret_text(a), "sk-", 3);
	for (size_t i = 3; i < secret_len(a); i++)
		assert_true(isalnum((unsigned char)secret_text(a)[i]));
	assert_false(secret_equal(a, b));
}

/* 62 doesn't divide 256: a plain remainder would favour the first eight digits by a quarter. */
static void test_drawn_digits_are_even(void **state)
{
	enum { N_IDS = 8000 };
	const double expected = N_IDS * (ID_SIZE - 1) / 62.0;
	unsigned seen[256] = { 0 };
	size_t n_digits = 0;
	char id[ID_SIZE];

	(void)state;
	for (int i = 0; i < N_IDS; i++) {
		crypt_draw_id(id);
		assert_int_equal(strlen(id), ID_SIZE - 1);
		for (size_t j = 0; j < ID_SIZE - 1; j++)
			seen[(unsigned char)id[j]]++;
	}
	for (int c = 0; c < 256; c++) {
		if (!seen[c])
			continue;
		n_digits++;
		/* five standard deviations of 2065 are 11 % */
		assert_true(seen[c] > expected * 0.88 && seen[c] < expected * 1.12);
	}
	assert_int_equal(n_digits, 62);
}

/* For whoever verifies elsewhere: the audit key makes the same chain, and opens nothing. */
static void test_the_audit_key_alone_chains_alike(void **state)
{
	_cleanup_(keyring_freep) struct keyring *k = test_keyring_of(1), *alone = NULL;
	_cleanup_(secret_freep) struct secret *key = keyring_audit_key(k);
	_cleanup_(secret_freep) struct secret *plain = secret_new("sk-abc", 6), *opened = NULL;
	_cleanup_(secret_freep) struct secret *shorter = secret_new("abc", 3);
	uint8_t previous[HASH_SIZE] = { 7 }, whole[HASH_SIZE], part[HASH_SIZE];
	uint8_t sealed[6 + SEAL_OVERHEAD];

	(void)state;
	assert_int_equal(keyring_new_audit(&alone, shorter), -EINVAL);
	assert_int_equal(keyring_new_audit(&alone, key), 0);
	keyring_chain(k, previous, "row", 3, whole);
	keyring_chain(alone, previous, "row", 3, part);
	assert_memory_equal(whole, part, HASH_SIZE);
	keyring_seal(k, "p", plain, sealed);
	assert_int_equal(keyring_open(alone, "p", sealed, sizeof(sealed), &opened), -EBADMSG);
}

static void test_hex_is_read_exactly(void **state)
{
	static const char *const bad[] = { "",	      "00",	"0011 2",  "00112233",
					   "0011223", "00112g", " 001122", "001122\n" };
	uint8_t bytes[3];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(crypt_unhex(bad[i], bytes, sizeof(bytes)), -EINVAL);
	assert_int_equal(crypt_unhex("00aBfF", bytes, sizeof(bytes)), 0);
	assert_int_equal(bytes[1], 0xab);
	assert_int_equal(bytes[2], 0xff);
	assert_int_equal(crypt_unhex("", bytes, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sealed_opens_at_its_place_only),
		cmocka_unit_test(test_every_changed_byte_is_noticed),
		cmocka_unit_test(test_sealing_twice_differs),
		cmocka_unit_test(test_seal_key_of_another_size_is_refused),
		cmocka_unit_test(test_derived_values_stay_the_same),
		cmocka_unit_test(test_fingerprints_tell_seal_keys_apart),
		cmocka_unit_test(test_chain_depends_on_all_its_inputs),
		cmocka_unit_test(test_the_audit_key_alone_chains_alike),
		cmocka_unit_test(test_hex_is_read_exactly),
		cmocka_unit_test(test_sha256_is_the_standard_one),
		cmocka_unit_test(test_drawn_key_has_the_form_that_litellm_takes),
		cmocka_unit_test(test_drawn_digits_are_even),
	};

	return cmocka_run_group_tests(tests, test_init, NULL);
}
