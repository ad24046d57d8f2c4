/* Sockets that the service manager opened for us (the LISTEN_FDS protocol of systemd). */
#pragma once

#include "io/handover.h"

/*
 * Finds the listening sockets bound to `paths` among those that were passed, makes them
 * close-on-exec and non-blocking, and closes the others; ret[i] is -1 where there is none. Takes
 * the variables out of the environment, so it works once. The number of sockets found.
 */
int activation_take(const char *const paths[], size_t n, int ret[]);
