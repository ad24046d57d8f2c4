/* Searching the audit: in steps, since it may be long and its reader has other things to do. */
#pragma once

#include <stddef.h>

#include "core/audit.h"
#include "io/store.h"

/* Which rows are meant; the texts are borrowed. */
struct audit_filter {
	int64_t since_ms, until_ms; /* wall time at or after, and before; < 0: any */
	int64_t uid;		    /* < 0: any */
	const char *unit, *profile, *lease, *event, *outcome, *key_tag; /* NULL: any */
};

/* Takes a row that matches; false: and no more. It must not write, nor search itself. */
typedef bool (*store_found_fn)(const struct audit_row *row, void *userdata);

struct audit_scan {
	uint64_t at;	/* rows to here were looked at */
	uint64_t until; /* none beyond is */
	size_t rows;	/* that may still be looked at */
};

/*
 * Looks at the next rows, in order, and gives those that match to `found`; moves `at` and takes the
 * rows off. At `until` all is done, else the next call goes on. Outcomes as store_begin().
 */
int store_find_audit(struct store *s, const struct audit_filter *filter, struct audit_scan *scan,
		     store_found_fn found, void *userdata) _must_check_;
