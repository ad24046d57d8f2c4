/* Lists that come in pages: every page is asked for, and all are shown as one. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct call_param;
struct cli;
struct message;
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

/* All pages of a reply that has more than one list. Zeroed: none. */
struct pages_kept {
	struct message **pages; /* owned */
	size_t n;
};

/* Asks the admin socket. `by_number`: as in struct pages; `upstream`: as in struct call. CLI_OK or
 * the exit code, after having said why; then there are none. */
int pages_keep(const struct cli *c, const char *method, bool by_number, bool upstream,
	       struct pages_kept *ret);
void pages_kept_deinit(struct pages_kept *kept);
/* The result of page `i`. */
const struct value *pages_kept_at(const struct pages_kept *kept, size_t i);
/* The members of the first page as JSON, without the braces; an array has those of all pages. */
void pages_kept_json(FILE *f, const struct pages_kept *kept);
