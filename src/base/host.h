/* Names of hosts. */
#pragma once

#include <stdbool.h>

/* 127.0.0.0/8, ::1 or localhost, and nothing that looks alike. `host` is in lower case, an IPv6
 * address without brackets. */
bool host_is_loopback(const char *host);
