/* How long the clients of a profile can live without upstream, for `status`. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct daemon;

struct outage {
	bool new_callers;     /* an acquire could be served now without asking upstream */
	int64_t keys;	      /* that somebody holds or would be handed */
	int64_t endless;      /* of those: never expire */
	int64_t first_end_ms; /* Unix; of the others, the one that expires first, and last; 0: none
			       */
	int64_t last_end_ms;
};

void outage_look(const struct daemon *d, const char *profile, struct outage *ret);
