/*
 * The seal key that the store's secrets are sealed with: 32 random bytes, kept as 64 hex digits and
 * a line end (`openssl rand -hex 32` makes one, and it survives a clipboard).
 */
#pragma once

#include <stdbool.h>

#include "base/macros.h"

struct secret;

enum {
	SEAL_KEY_E_MISSING = 1, /* and was not to be made; not logged */
	SEAL_KEY_E_REFUSED = 2, /* logged, with path and remedy */
};

/* The file's place: `/etc/keybroker/seal.key` or `~/.config/keybroker/seal.key`. free() it. */
char *seal_key_path(bool system_mode) _must_check_;
/* Where the key is taken from: the systemd credential if there is one, else the file. free() it. */
char *seal_key_source(bool system_mode) _must_check_;
/* The key in the file `path`, which may be a credential. SEAL_KEY_E_*. */
int seal_key_read(const char *path, struct secret **ret) _must_check_;
/*
 * The systemd credential `seal_key`, else the file. With `create`, a missing file is made first;
 * any number of processes may do that at once and all get the same key. `*ret` has SEAL_KEY_SIZE
 * bytes.
 */
int seal_key_load(bool system_mode, bool create, struct secret **ret) _must_check_;
