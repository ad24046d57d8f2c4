/*
 * The options of keybroker.conf: one table, of which the parser's rows, the environment's
 * variables,
 * `--check` and the file that `--init` writes are made. A value lives in struct config, profile or
 * rule; where it came from, in the `origins` beside it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

enum option_section {
	SECTION_TOP,	  /* struct config, here to SECTION_LIMITS */
	SECTION_UPSTREAM, /* upstream { } */
	SECTION_LEASE,	  /* lease { } */
	SECTION_LIMITS,	  /* limits { } */
	SECTION_PROFILE,  /* profile "NAME" { }: struct profile */
	SECTION_KEY,	  /* key { } inside a profile: struct profile */
	SECTION_TEAM,	  /* team { } likewise */
	SECTION_RULE,	  /* rule "NAME" { }: struct rule */
	SECTION_LISTEN,	  /* listen "NAME" { }: struct rule */
};
enum { SECTION_N = SECTION_LISTEN + 1 };

enum option_type {
	OPTION_TEXT,	     /* char * */
	OPTION_PATH,	     /* char *: an absolute path */
	OPTION_ALIAS,	     /* char *: an alias template */
	OPTION_URL,	     /* char *: without trailing slashes */
	OPTION_UPSTREAM_URL, /* char *: without a trailing /v1 either */
	OPTION_LIST,	     /* char **, and the number of items at `more` */
	OPTION_BOOL,	     /* bool */
	OPTION_COUNT,	     /* int64_t */
	OPTION_SIZE,	     /* int64_t bytes, written as a number and K, M, G or T */
	OPTION_NUMBER,	     /* double, not negative */
	OPTION_SPAN,	     /* int64_t milliseconds, written as a duration */
	OPTION_DURATION,     /* char * as LiteLLM takes it, and its milliseconds at `more` if any */
	OPTION_ENUM,	     /* an enum, by `names` */
	OPTION_ID,	     /* uid_t or gid_t, and the bool at `more` */
};

struct option_name {
	const char *name;
	int value;
};

/* An environment variable that sets an option, and what an unset one means. */
struct option_env {
	const char *variable;
	const char *fallback;
};

struct option {
	const char *name;
	enum option_section section;
	enum option_type type;
	size_t at, more;  /* offsets of the value in its struct */
	int64_t min, max; /* OPTION_COUNT, _SIZE; max 0: 10^12. OPTION_SPAN: min is what "none" is
			     stored as */
	const char *fallback; /* the default as written in the file; NULL: none */
	const struct option_name *names;
	/* [0]: of the whole broker or the profile `service`; [1]: of the profile `process` */
	struct option_env env[2];
	const char *example; /* for the commented file if there is no default */
	const char *help;
};

#define OPTION_WHY_MAX 256
enum { OPTION_E_BAD = 1 };

size_t option_count(void);
const struct option *option_at(size_t index);
/* The row must exist. */
const struct option *option_find(enum option_section section, const char *name);
/* "" for SECTION_TOP. */
const char *option_section_name(enum option_section section);
/* What a section is for, in one line. */
const char *option_section_help(enum option_section section);

/*
 * Sets an option from its text (a list: its items) in the struct at `base` and notes `origin`,
 * unless that is NULL. OPTION_E_BAD: nothing changed and `ret_why` says what is wrong ("must be
 * …").
 */
int option_set(const struct option *o, const char *const *texts, size_t n, void *base,
	       const char *origin, char ret_why[OPTION_WHY_MAX]) _must_check_;
/* Sets each option of a section to its default; no origin is noted. */
void option_set_defaults(enum option_section section, void *base);
/* Frees the values of a section and, once for all sections of one struct, the origins. */
void option_clear_section(enum option_section section, void *base);
void option_clear_origins(char ***origins);
/* The value as the file would write it, or NULL if there is none. free() it. */
char *option_show(const struct option *o, const void *base) _must_check_;
/* Where the value came from; "default" if nothing set it. */
const char *option_origin(const struct option *o, const void *base);
bool option_was_set(const struct option *o, const void *base);
