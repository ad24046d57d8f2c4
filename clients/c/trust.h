/* Whether a socket is served by somebody who may see our requests and whose keys we may use. */
#pragma once

#include "clients/c/keybroker.h"

/* Checks the owner and mode of the directory that holds the socket: KEYBROKER_OK or
 * KEYBROKER_UNTRUSTED; a directory that cannot be looked at is left to connect() to report. */
enum keybroker_code trust_directory(const char *socket_path, struct keybroker_error *e);
/* Checks who listens at the other end of a connected socket. */
enum keybroker_code trust_server(int fd, const char *socket_path, struct keybroker_error *e);
