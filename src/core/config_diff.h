/* What a reload has changed, in numbers: for the audit. */
#pragma once

#include <stddef.h>

struct config;

/* Of a kind of thing with a name, compared by that name. */
struct config_diff_counts {
	size_t added, removed, changed;
};

struct config_diff {
	size_t settings; /* that stand outside profiles and rules, the master key being one */
	struct config_diff_counts profiles;
	struct config_diff_counts rules; /* and listen sections; one in another place is changed */
};

void config_diff(const struct config *before, const struct config *now, struct config_diff *ret);
/* The same in words. */
void config_diff_describe(const struct config *before, const struct config *now, char *ret,
			  size_t size);
