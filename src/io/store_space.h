/* How much room the state takes, and how much there is. */
#pragma once

#include <stdint.h>

#include "io/store.h"

struct store_space {
	uint64_t used;	     /* bytes of the database's pages that hold something */
	uint64_t free, size; /* bytes of its file system: to be had by us, and in all */
};

int store_space(struct store *s, struct store_space *ret) _must_check_;
