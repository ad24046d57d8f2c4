/* An imported key beside those that its profile makes: the same in all that callers may rely on? */
#pragma once

#include <stddef.h>

struct config;
struct litellm_answer;
struct profile;

struct import_compare {
	const struct config *config;
	const struct profile *profile;
	const char *own_team;		    /* of the profile's keys; NULL: not known */
	const char *file_team, *file_url;   /* what the file says; NULL: nothing */
	const struct litellm_answer *found; /* of INFO */
};

/* A sentence for each difference, in an array that the caller frees as its texts; NULL: none. */
char **import_compare(const struct import_compare *c, size_t *ret_n);
