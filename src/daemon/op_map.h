/*
 * A reply's map whose size is known only at its end: the pairs are packed into a buffer of their
 * own first. The first error is kept in `r` and comes out of op_map_end(), so that the steps need
 * no checks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct op_map {
	struct buf pairs;
	size_t n;
	int r;
};

/* The name alone: its value is packed into `pairs` by the caller, its error into `r`. */
void op_map_name(struct op_map *m, const char *name);
/* Left out when it is NULL or empty. */
void op_map_text(struct op_map *m, const char *name, const char *value);
void op_map_int(struct op_map *m, const char *name, int64_t value);
/* Left out when it is 0: an unknown or absent time. */
void op_map_time(struct op_map *m, const char *name, int64_t value);
void op_map_bool(struct op_map *m, const char *name, bool value);
/* An array of texts. */
void op_map_texts(struct op_map *m, const char *name, char *const *texts, size_t n);
/* `inner` is ended and becomes the value. */
void op_map_map(struct op_map *m, const char *name, struct op_map *inner);
/* Appends the map to `b` and empties it; yields the first error. */
int op_map_end(struct op_map *m, struct buf *b);
