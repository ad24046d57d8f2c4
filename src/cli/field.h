/* Fields of a reply with a plain answer where they are absent. */
#pragma once

#include <stdint.h>
#include <stdio.h>

#include "base/macros.h"

struct value;

const char *field_text(const struct value *map, const char *name); /* absent: "" */
int64_t field_int(const struct value *map, const char *name);	   /* absent: 0 */
/* The texts and integers of an array, separated by ", ". Free with free(). */
char *field_join(const struct value *array) _must_check_;
#define FIELD_COUNT_SIZE 64
/* "1 lease", "3 leases". Yields `ret`. */
const char *field_count(const struct value *map, const char *name, const char *noun,
			char ret[FIELD_COUNT_SIZE]);
/* "name    text", cleaned. */
void field_print(FILE *f, const char *name, const char *text);
