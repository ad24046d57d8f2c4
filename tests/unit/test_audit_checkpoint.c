/* A checkpoint is signed over all that it says, and with a key that only its state has. */
#include "test_audit_key.h"

#include <string.h>

#include "core/audit_checkpoint.h"

static void test_every_bit_counts(void **state)
{
	_cleanup_(keyring_freep) struct keyring *k = test_keyring_of(1),
						*other = test_keyring_of(2);
	struct audit_checkpoint c = { .sequence = 7, .count = 5, .pruned_at_ms = 9, .hash = { 3 } };
	uint8_t *bytes = (uint8_t *)&c;

	(void)state;
	assert_false(checkpoint_is_genuine(k, "here", &c));
	checkpoint_sign(k, "here", &c);
	assert_true(checkpoint_is_genuine(k, "here", &c));
	assert_false(checkpoint_is_genuine(other, "here", &c));
	assert_false(checkpoint_is_genuine(k, "elsewhere", &c));
	assert_false(checkpoint_is_genuine(k, "", &c));
	for (size_t i = 0; i < sizeof(c); i++) {
		bytes[i] ^= 0x10;
		assert_false(checkpoint_is_genuine(k, "here", &c));
		bytes[i] ^= 0x10;
	}
	assert_true(checkpoint_is_genuine(k, "here", &c));
}

/* The bytes of schema 2's first states: sequence, count and time big-endian, and the hash. */
static void test_a_signature_from_before_the_install_counts(void **state)
{
	static const uint8_t bytes[24 + HASH_SIZE] = { [7] = 7, [15] = 5, [23] = 9, [24] = 3 };
	_cleanup_(keyring_freep) struct keyring *k = test_keyring_of(1);
	struct audit_checkpoint c = { .sequence = 7, .count = 5, .pruned_at_ms = 9, .hash = { 3 } };

	(void)state;
	audit_sign(k, "keybroker audit checkpoint", bytes, sizeof(bytes), c.mac);
	assert_true(checkpoint_is_genuine(k, "here", &c));
	c.count++;
	assert_false(checkpoint_is_genuine(k, "here", &c));
}

/* One kind of signature never passes for another, nor for a row's hash. */
static void test_kinds_are_kept_apart(void **state)
{
	static const uint8_t zeroes[HASH_SIZE];
	_cleanup_(keyring_freep) struct keyring *k = test_keyring_of(1);
	uint8_t a[HASH_SIZE], b[HASH_SIZE], row[HASH_SIZE];

	(void)state;
	audit_sign(k, "one kind", "data", 4, a);
	audit_sign(k, "other kind", "data", 4, b);
	keyring_chain(k, zeroes, "data", 4, row);
	assert_memory_not_equal(a, b, HASH_SIZE);
	assert_memory_not_equal(a, row, HASH_SIZE);
}

static int test_init(void **state)
{
	(void)state;
	return crypt_init();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_bit_counts),
		cmocka_unit_test(test_a_signature_from_before_the_install_counts),
		cmocka_unit_test(test_kinds_are_kept_apart),
	};

	return cmocka_run_group_tests(tests, test_init, NULL);
}
