/* What came of a verification, for people or as JSON. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/audit_chain.h"
#include "core/audit_checkpoint.h"

struct args;

struct report {
	struct chain_verdict verdict;
	const char *why;	 /* in place of the verdict's own words; NULL: those */
	uint64_t first, last;	 /* of the good part */
	uint64_t n_rows;	 /* in it */
	uint8_t hash[HASH_SIZE]; /* of `last` */
	struct audit_checkpoint checkpoint;
};

/* Prints it on stdout; yields the exit code: 0, EXIT_BROKEN or EXIT_UNPROVEN. */
int report_print(const struct args *a, const struct report *r);
