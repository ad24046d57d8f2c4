/* The environment, where it holds what must not stay. */
#pragma once

#include <stdbool.h>

/*
 * Takes the variable out, and overwrites its value where it is: /proc/PID/environ shows the
 * original block, whatever unsetenv does. True: it was set, if only to "".
 */
bool env_scrub(const char *name);
