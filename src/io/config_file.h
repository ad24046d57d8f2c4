/* Reads one file of the configuration, by libConfuse. Whatever is wrong is reported as FILE:LINE.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/macros.h"

struct config;
struct config_report;

/* The main file and then conf.d/ *.conf beside it, sorted. `ret_found`: there was any file. A
 * missing file is an error if it is `required`. */
void config_file_read_all(const char *path, bool required, struct config *c,
			  struct config_report *report, bool *ret_found);
/* One file's text (NUL-terminated; it is changed), as if it stood in `path`. */
void config_file_parse(const char *path, char *text, size_t n, struct config *c,
		       struct config_report *report);
