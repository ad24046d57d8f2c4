/* libConfuse's rows, made of the table of options, and what its callbacks report. For
 * config_file.c.
 */
#pragma once

#include <confuse.h>

#include "base/macros.h"

struct config_report;

/* What the callbacks need; libConfuse hands them nothing but its own structs. */
struct config_file_context {
	const char *path;
	struct config_report *report;
	int unknown_line; /* of the last unknown key: what else is wrong there follows from it */
};

/* Each value in the tree is one of these (CFGT_PTR). */
struct config_file_value {
	int line;
	char text[];
};

/* A parser for one file, with our error function; `ctx` is borrowed. To be given to cfg_free(). */
cfg_t *config_file_rows_new(struct config_file_context *ctx) _must_check_;
/* The line where a section begins. */
int config_file_line(cfg_t *section);
