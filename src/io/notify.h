/* Tells the service manager how we are (sd_notify). Does nothing when there is none. */
#pragma once

#include "base/macros.h"

/* For example "READY=1\nSTATUS=…". */
void notify_send(const char *fmt, ...) _printf_(1, 2);
