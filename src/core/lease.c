/* Names of lease states and bindings. */
#include "core/lease.h"

#include <string.h>

static const char *const lease_state_names[] = {
	[LEASE_ACTIVE] = "active",
	[LEASE_RELEASED] = "released",
	[LEASE_EXPIRED] = "expired",
	[LEASE_REVOKED] = "revoked",
};

static const char *const lease_bind_names[] = {
	[LEASE_PROCESS] = "process",
	[LEASE_CONNECTION] = "connection",
	[LEASE_TTL] = "ttl",
};

const char *lease_state_name(enum lease_state state)
{
	return lease_state_names[state];
}

const char *lease_bind_name(enum lease_bind bind)
{
	return lease_bind_names[bind];
}

int lease_bind_from_name(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(lease_bind_names); i++)
		if (strcmp(lease_bind_names[i], name) == 0)
			return (int)i;
	return -1;
}
