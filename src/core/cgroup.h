/* The systemd units of a process, read from the text of /proc/PID/cgroup. */
#pragma once

#include "core/peer.h"

/*
 * Of the `0::` line (cgroup v2) alone. `ret_unit`: the unit of the system's manager, the first name
 * behind the slices. `ret_user_unit`: the unit of a user's manager, behind `user@UID.service`; what
 * stands there is that user's to choose. "" where there is none: no such line, a path with "..", a
 * cgroup that was removed, a name that no unit has.
 */
void cgroup_units(const char *text, char ret_unit[PEER_UNIT_SIZE],
		  char ret_user_unit[PEER_UNIT_SIZE]);
/* Could a unit that processes run in have this name? */
bool cgroup_is_unit(const char *name);
