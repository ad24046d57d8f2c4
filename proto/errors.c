/* The error names of the wire: one table for both directions. */
#include "proto/errors.h"

#include <string.h>

#include "base/macros.h"

static const char *const proto_error_names[PROTO_N_ERRORS] = {
	[PROTO_INVALID_REQUEST] = "invalid_request",
	[PROTO_DENIED] = "denied",
	[PROTO_UNKNOWN_PROFILE] = "unknown_profile",
	[PROTO_UNKNOWN_LEASE] = "unknown_lease",
	[PROTO_LIMIT_EXCEEDED] = "limit_exceeded",
	[PROTO_UPSTREAM_UNAVAILABLE] = "upstream_unavailable",
	[PROTO_UPSTREAM_REFUSED] = "upstream_refused",
	[PROTO_AUDIT_UNAVAILABLE] = "audit_unavailable",
	[PROTO_NOT_LEADER] = "not_leader",
	[PROTO_INTERNAL] = "internal",
};

const char *proto_error_name(enum proto_error code)
{
	return (unsigned)code < PROTO_N_ERRORS ? proto_error_names[code]
					       : proto_error_names[PROTO_INTERNAL];
}

enum proto_error proto_error_from_name(const char *name)
{
	for (size_t i = 0; name && i < PROTO_N_ERRORS; i++)
		if (strcmp(proto_error_names[i], name) == 0)
			return (enum proto_error)i;
	return PROTO_INTERNAL;
}
