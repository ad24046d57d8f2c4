/* Options as people read them; shared by --check and --init. */
#pragma once

#include <stdbool.h>

#include "base/macros.h"
#include "core/option.h"

/* Is it but another way to write the next one (`user` of `uid`)? */
bool config_value_is_synonym(const struct option *o);
/* Has any option of the section a value? */
bool config_value_any(enum option_section section, const void *base);
/* As option_show(), with a group's name for its number. free() it. */
char *config_value_show(const struct option *o, const void *base) _must_check_;
