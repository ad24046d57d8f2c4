/* `status`: the older keys of a profile that still work, and what holds them. */
#pragma once

#include <stddef.h>

struct daemon;
struct key;
struct op_map;
struct shared;

/* How many of them, and of their holders, may still be shown: the reply has its limits. */
struct op_retiring_room {
	size_t keys, holders;
};

#define OP_RETIRING_ROOM ((struct op_retiring_room){ .keys = 100, .holders = 60 })

/* The oldest first; with the number of those that are left out, if any. */
void op_retiring_pack(const struct daemon *d, const char *profile, struct op_retiring_room *room,
		      struct op_map *m);
/* "older": how many of its keys retire, and by how many leases they are held. */
void op_retiring_sum(const struct shared *s, struct op_map *m);
/* By what names a key is known: alias, generation, short hash. */
void op_retiring_name(const struct key *k, struct op_map *m);
