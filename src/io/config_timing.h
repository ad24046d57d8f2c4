/* A testing build's --timing FILE: lines of `name value`, # comments. A release build reads none.
 */
#pragma once

struct config;
struct config_report;

/* Does nothing for NULL. */
void config_timing_read(const char *path, struct config *c, struct config_report *report);
