/* The error codes of the protocol, on both sides. */
#pragma once

enum proto_error {
	PROTO_INVALID_REQUEST,
	PROTO_DENIED,
	PROTO_UNKNOWN_PROFILE,
	PROTO_UNKNOWN_LEASE,
	PROTO_LIMIT_EXCEEDED,
	PROTO_UPSTREAM_UNAVAILABLE,
	PROTO_UPSTREAM_REFUSED,
	PROTO_AUDIT_UNAVAILABLE,
	PROTO_NOT_LEADER,
	PROTO_INTERNAL,
};
enum { PROTO_N_ERRORS = PROTO_INTERNAL + 1 };

/* The name on the wire, for example "invalid_request". */
const char *proto_error_name(enum proto_error code);
/* PROTO_INTERNAL for an unknown name. */
enum proto_error proto_error_from_name(const char *name);
