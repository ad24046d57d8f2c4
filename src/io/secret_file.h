/* Secrets from files: read only if nobody else can. */
#pragma once

#include <sys/types.h>

#include "base/macros.h"

struct secret;

enum {
	SECRET_FILE_E_MISSING = 1, /* there is no such file */
	SECRET_FILE_E_REFUSED = 2, /* not to be trusted or not a secret */
};

/*
 * Reads the secret in `path`: one line of printable text, its line end taken off. The file must be
 * regular, owned by us or root, and closed to group and others; a credential of systemd may be
 * readable by a group. For both outcomes `ret_why` names path, fault and remedy, never content.
 */
int secret_file_read(const char *path, struct secret **ret, char ret_why[512]) _must_check_;
/* The same, and the file may belong to `owner` as well. */
int secret_file_read_of(uid_t owner, const char *path, struct secret **ret,
			char ret_why[512]) _must_check_;
/* As secret_file_read(), but a group may read the file too, as it may a credential of systemd. */
int secret_file_read_grouped(const char *path, struct secret **ret, char ret_why[512]) _must_check_;
/*
 * As secret_file_read() for the first of `names` (ends with NULL) that exists in systemd's
 * $CREDENTIALS_DIRECTORY; SECRET_FILE_E_MISSING if there is none.
 */
int secret_file_read_credential(const char *const *names, struct secret **ret,
				char ret_why[512]) _must_check_;
/* The path of that credential; NULL if there is none. free() it. */
char *secret_file_credential(const char *const *names) _must_check_;
