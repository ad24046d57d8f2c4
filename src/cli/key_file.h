/* `exec --key-file`: the key in a file of its own. */
#pragma once

#include "base/macros.h"

struct key_file {
	char *path; /* owned; NULL: there is to be none */
	int fd; /* the file that was written last, open so that no other gets its inode; or -1 */
};

/*
 * Makes `f->path` a file of mode 0600 with the key as its one line, in one step: who opens it reads
 * the old key or the new one. A link there is replaced, not followed. -errno if that fails; then
 * what was there is there still.
 */
int key_file_write(struct key_file *f, const char *key) _must_check_;
/* Takes the file away, unless somebody else has put another one there since. */
void key_file_remove(const struct key_file *f);
void key_file_deinit(struct key_file *f);
