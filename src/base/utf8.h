/* Text that others made, on its way into what has to be UTF-8. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/*
 * In place: each byte that is not part of a well-formed character becomes "?"; a character that the
 * end of the text cuts off goes. Never longer than before.
 */
void utf8_clean(char *text);
/* Is it all well-formed, and without NUL? */
bool utf8_is_good(const char *text, size_t n);
