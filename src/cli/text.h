/* Text for people: cleaned of what would move a terminal's cursor, and measured in columns. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/macros.h"

/* A copy with each control character replaced by "?"; NULL becomes "". Free with free(). */
char *text_clean(const char *s) _must_check_;
/* Columns, taking each character of UTF-8 as one. */
size_t text_width(const char *s);
/* The bytes that the first `columns` columns take. */
size_t text_prefix(const char *s, size_t columns);
/* Writes the text as a JSON string. */
void text_print_json(FILE *f, const char *s);
#define TEXT_HASH_SIZE 65
/* A SHA-256, or `least` or more of its first digits, in the lower case that the broker takes. False
 * for anything else. */
bool text_hash(const char *s, size_t least, char ret[TEXT_HASH_SIZE]);
/* "HUP", "SIGHUP" or "1" as a number; 0: there is none of that name. */
int text_signal(const char *name);
/* The text as a word of the shell: as it is if it is plain, else in single quotes. Free with
 * free(). */
char *text_shell_word(const char *s) _must_check_;
