/* The errors of the client: one row per code, with what the caller can do about it. */
#include "clients/c/fault.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	const char *advice;
} fault_codes[] = {
	[KEYBROKER_OK] = { "ok", "" },
	[KEYBROKER_INVALID_REQUEST] = { "invalid_request",
					"Correct the call: repeating it is useless." },
	[KEYBROKER_DENIED] = { "denied", "Ask the administrator; `keybroker explain` shows why." },
	[KEYBROKER_UNKNOWN_PROFILE] = { "unknown_profile",
					"`keybroker list` shows those there are." },
	[KEYBROKER_UNKNOWN_LEASE] = { "unknown_lease",
				      "It has ended or never was: `keybroker leases` shows those there are." },
	[KEYBROKER_LIMIT_EXCEEDED] = { "limit_exceeded",
				       "Release what is not needed, or try again later." },
	[KEYBROKER_UPSTREAM_UNAVAILABLE] = { "upstream_unavailable",
					     "`keybroker status` shows how LiteLLM is." },
	[KEYBROKER_UPSTREAM_REFUSED] = { "upstream_refused",
					 "If it is about a team, models, budget or duration, change the "
					 "profile." },
	[KEYBROKER_AUDIT_UNAVAILABLE] = { "audit_unavailable", "The broker's log may say more." },
	[KEYBROKER_NOT_LEADER] = { "not_leader", "The broker is stopping or restarting." },
	[KEYBROKER_INTERNAL] = { "internal", "The broker's log says more." },
	[KEYBROKER_UNREACHABLE] = { "unreachable",
				    "Start one with `keybrokerd`, or name its socket "
				    "by KEYBROKER_SOCKET." },
	[KEYBROKER_UNTRUSTED] = { "untrusted",
				  "If that server is right, set KEYBROKER_SERVER_UID to its uid." },
	[KEYBROKER_TIMEOUT] = { "timeout", "See whether the broker is running and not stopped." },
	[KEYBROKER_LOST] = { "lost", "Whether it was done, `keybroker status` shows." },
	[KEYBROKER_GARBAGE] = { "garbage", "See what serves that socket." },
	[KEYBROKER_NO_MEMORY] = { "no_memory", "Try again when there is some." },
	[KEYBROKER_PENDING] = { "pending", "Ask again after keybroker_dispatch()." },
};

const char *keybroker_code_name(enum keybroker_code code)
{
	return (size_t)code < ARRAY_SIZE(fault_codes) ? fault_codes[code].name : "internal";
}

enum keybroker_code fault_code_from_name(const char *name)
{
	for (size_t i = KEYBROKER_INVALID_REQUEST; name && i <= KEYBROKER_INTERNAL; i++)
		if (strcmp(fault_codes[i].name, name) == 0)
			return (enum keybroker_code)i;
	return KEYBROKER_INTERNAL;
}

enum keybroker_code fault_set(struct keybroker_error *e, enum keybroker_code code, const char *fmt,
			      ...)
{
	va_list args;

	if (!e)
		return code;
	e->code = code;
	e->retry_after_ms = -1;
	e->socket[0] = '\0';
	e->n_tried = 0;
	va_start(args, fmt);
	(void)vsnprintf(e->message, sizeof(e->message), fmt, args); /* may be cut */
	va_end(args);
	(void)snprintf(e->advice, sizeof(e->advice), "%s", fault_codes[code].advice);
	return code;
}

const char *fault_why_not(int error)
{
	static const struct {
		int error;
		const char *text;
	} rows[] = {
		{ ENOENT, "there is no such socket" },
		{ ECONNREFUSED, "nobody listens there (left over by a broker that ended?)" },
		{ EACCES, "permission denied" },
		{ ENAMETOOLONG, "the path is too long for a socket (107 bytes at most)" },
		{ ENOTSOCK, "it is not a socket" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].error == error)
			return rows[i].text;
	return strerror(error);
}

bool fault_is_access(const struct keybroker_error *e)
{
	bool closed = false, dead = false;

	for (size_t i = 0; i < e->n_tried; i++) {
		closed = closed || e->tried[i].error == EACCES;
		dead = dead || e->tried[i].error == ECONNREFUSED;
	}
	return closed && !dead;
}

enum keybroker_code fault_pack(struct keybroker_error *e, int r)
{
	if (r == -ENOMEM)
		return fault_set(e, KEYBROKER_NO_MEMORY, "no memory");
	return fault_set(e, KEYBROKER_INVALID_REQUEST,
			 "the request is larger than the broker takes");
}
