/* `exec --key-file`: the key in a file of its own. */
#pragma once

#include "base/macros.h"

/*
 * Makes `path` a file of mode 0600 with the key as its one line, in one step: who opens it reads
 * the old key or the new one. A link there is replaced, not followed. -errno if that fails; then
 * what was there is there still.
 */
int key_file_write(const char *path, const char *key) _must_check_;
