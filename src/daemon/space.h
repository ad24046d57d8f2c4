/*
 * Room for the record: a warning long before the disk is full, since without a record no key is
 * handed out. Said once when it begins and once when it is over, and in `status` meanwhile.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct config;
struct daemon;
struct store_space;

enum { SPACE_LARGE, SPACE_LOW, SPACE_N_WARNINGS };

struct space {
	bool on[SPACE_N_WARNINGS];
	char text[SPACE_N_WARNINGS][256];
};

/* Looks, and judges; called by the checkpoint's timer. */
void space_check(struct daemon *d);
void space_judge(struct space *s, const struct config *c, const struct store_space *found);
/* The warnings that are on; `ret` has room for SPACE_N_WARNINGS. How many. */
size_t space_warnings(struct space *s, char **ret);
