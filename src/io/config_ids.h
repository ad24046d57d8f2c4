/* Users and groups by name, for rules. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/macros.h"

/* The number, as text, of what the option `user`, `group` or `uid` says (a name, or a number as it
 * is); NULL if there is no such user or group. free() it. */
char *config_id(const char *option, const char *text) _must_check_;
/* May this process give files to the group of that number? As root, or a member of it. */
bool config_may_give(const char *gid);
/* The group's name, or its number if it has none. free() it. */
char *config_group_name(gid_t gid) _must_check_;
