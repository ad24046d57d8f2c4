/*
 * Makes a file's text fit for libConfuse 3.3, which counts a comment as three lines, fills in ${…}
 * from the environment, and keeps the state of a broken string for the next file.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/macros.h"

struct config_report;

/*
 * Blanks comments in place; lines stay where they are. False if something was reported and the text
 * must not be parsed: ${, a string that does not end, an escape other than \\ \" \n \t, a control
 * character, an empty list.
 */
bool config_text_clean(const char *path, char *text, size_t n,
		       struct config_report *report) _must_check_;
