/* Who may have what: one rule of the configuration, as a value. core/policy.h decides by it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PROFILE_NAME_MAX 64 /* bytes with the NUL: [A-Za-z0-9._-] */

/* Where a value came from: "keybroker.conf:12", "LITELLM_MODELS", "--socket", "default". */
struct origin {
	char text[256];
};

/*
 * Matches if all that it names match; the first that matches peer and profile decides. A `listen`
 * section is one too: it is for whoever comes by its socket, and for nobody else.
 */
struct rule {
	char name[PROFILE_NAME_MAX];
	bool has_uid, has_gid;
	bool foreign_pid; /* also processes of a pid namespace that the broker cannot see into */
	bool waits; /* of a listen section: its socket is another until the restart; no grant */
	uid_t uid;  /* from `uid` or `user` */
	gid_t gid;  /* from `group`: the peer's gid or one of its supplementary groups; of a listen
		       section, its socket's */
	char *unit, *user_unit; /* globs; NULL: any, or none */
	char *exe;		/* path; NULL: any */
	char *path;		/* of a listen section: the socket; else NULL */
	char **profiles;	/* globs */
	size_t n_profiles;
	char *base_url;		  /* handed out to these peers; NULL: the profile's */
	int64_t max_leases;	  /* per uid; < 0: the default */
	int64_t mints_per_minute; /* per uid; < 0: the default */
	int64_t max_connections;  /* per uid; < 0: the default */
	int64_t ttl_cap_ms;	  /* longest TTL lease; < 0: none but timing's */
	char **origins;		  /* of each value, see option.h; owned */
	struct origin origin;
};
