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

static int lease_name_index(const char *const *names, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(names[i], name) == 0)
			return (int)i;
	return -1;
}

const char *lease_state_name(enum lease_state state)
{
	return lease_state_names[state];
}

int lease_state_from_name(const char *name)
{
	return lease_name_index(lease_state_names, ARRAY_SIZE(lease_state_names), name);
}

const char *lease_bind_name(enum lease_bind bind)
{
	return lease_bind_names[bind];
}

int lease_bind_from_name(const char *name)
{
	return lease_name_index(lease_bind_names, ARRAY_SIZE(lease_bind_names), name);
}
