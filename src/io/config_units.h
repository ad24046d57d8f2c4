/* Do rules wait for what this host has? Only warnings come of it: a unit may be made tomorrow. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/macros.h"

struct config;

/* Warns of each rule whose `exe` is no file here, and, where systemd runs, whose `unit` no unit
 * file has. */
void config_units_judge(struct config *c);
/* Is there a unit file in one of these directories that `pattern` matches, or the template of it?
 */
bool config_units_known(const char *pattern, const char *const dirs[], size_t n);
