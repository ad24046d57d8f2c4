/* Lists that come in pages: every page is asked for, and all are shown as one. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct call_param;
struct cli;
struct value;

struct pages {
	const char *method;
	const char *list; /* the field of the reply with the rows */
	bool admin;
	bool by_number;			 /* `after` and `next` are integers, not text */
	int64_t after;			 /* by_number: where to begin; < 0: at the beginning */
	int64_t limit;			 /* rows in all; < 0: no limit */
	const struct call_param *params; /* of each page, before `after` and `limit`; NULL: none */
	size_t n_params;
	void (*row)(void *userdata, const struct value *row); /* unless --json */
	void *userdata;
};

/* With --json, prints {"<list>":[…],"next":…?} itself. CLI_OK or the exit code, after having said
 * why. */
int pages_read(const struct cli *c, const struct pages *p);
