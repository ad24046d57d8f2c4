/* A value of a reply as JSON text. */
#pragma once

#include <stdio.h>

struct value;

/* Compact, in the order of the reply; nil for NULL, bin, and text that isn't UTF-8. Errors stay
 * with the stream. */
void json_out(FILE *f, const struct value *v);
/* The same as a line on stdout. */
void json_out_line(const struct value *v);
