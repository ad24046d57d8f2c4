/* Filling a struct keybroker_error: codes, their names and their advice. */
#pragma once

#include "base/macros.h"
#include "clients/c/keybroker.h"

/* Sets the error to `code` with a message and the code's usual advice; yields the code. `e` may be
 * NULL.
 */
enum keybroker_code fault_set(struct keybroker_error *e, enum keybroker_code code, const char *fmt,
			      ...) _printf_(3, 4);
/* KEYBROKER_INTERNAL for an unknown name. */
enum keybroker_code fault_code_from_name(const char *name);
/* Why a socket did not accept, by its errno. */
const char *fault_why_not(int error);
/* Whether no socket could be used because they are closed to us. One that is dead would have been
 * ours: then it is a broker that is missing. */
bool fault_is_access(const struct keybroker_error *e);
/* KEYBROKER_NO_MEMORY for -ENOMEM, else KEYBROKER_INVALID_REQUEST (the request is too large). */
enum keybroker_code fault_pack(struct keybroker_error *e, int r);
