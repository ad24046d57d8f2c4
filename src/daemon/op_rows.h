/*
 * Rows of a reply, as many as it has room for: a page, or a list that says how many were left out.
 * What a reply may hold is proto/PROTOCOL.md's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

struct op_map;
struct profile;

struct op_rows {
	struct buf packed;
	size_t n;
	size_t bytes, values; /* that may still come */
	int r;		      /* the first error */
};

/* As many as fit beside what `m` has so far and a few small fields. */
void op_rows_begin(struct op_rows *rows, const struct op_map *m);
/* Ends `row`. False: it has no room, or there is an error; it is left out. */
bool op_rows_add(struct op_rows *rows, struct op_map *row);
/* They become an array of `m`. */
void op_rows_end(struct op_rows *rows, struct op_map *m, const char *name);

/* How many of a profile's models a reply names. */
size_t op_models_shown(const struct profile *p);
/* "models", and "models_more" where some are left out. */
void op_models_pack(struct op_map *m, const struct profile *p);
