/* A keyring that has the audit key alone. */
#pragma once

#include "test.h"

#include <string.h>

#include "base/crypt.h"
#include "base/secret.h"

static inline struct keyring *test_keyring_of(uint8_t fill)
{
	_cleanup_(secret_freep) struct secret *key = secret_new_empty(AUDIT_KEY_SIZE);
	struct keyring *k = NULL;

	memset(secret_bytes(key), fill, AUDIT_KEY_SIZE);
	assert_int_equal(keyring_new_audit(&k, key), 0);
	return k;
}
