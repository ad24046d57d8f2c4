/* The file that `keybroker import` reads. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

struct json;

/* The fields of the file; they live as long as the document. */
struct import_file {
	struct json *doc; /* owned */
	const char *token, *alias;
	const char *team_id, *base_url; /* NULL if absent */
	const char *created_at;		/* text, or NULL */
	int64_t created_at_ms;		/* an integer, or < 0 */
	unsigned mode;			/* permissions of the file; 0: it is none (stdin, a pipe) */
};

/* Reads "path" ("-": stdin). 0, or CLI_DATA or another exit code with `ret_why` saying which field
 * is wrong, never what it holds. */
int import_file_read(struct import_file *ret, const char *path, char *ret_why,
		     size_t size) _must_check_;
/* The same from text, with the file's name for messages. */
int import_file_parse(struct import_file *ret, const char *text, size_t n, char *ret_why,
		      size_t size) _must_check_;
void import_file_deinit(struct import_file *f);
