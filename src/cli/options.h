/* The options of the command line: one table, from which parser and help are made. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* One bit per option, for the commands that take it. */
enum {
	OPT_PROFILE = 1 << 0,
	OPT_FORMAT = 1 << 1,
	OPT_TTL = 1 << 2,
	OPT_MIN_VALID = 1 << 3,
	OPT_KEEP_ENV = 1 << 4,
	OPT_LEASE = 1 << 5,
	OPT_UID = 1 << 6,
	OPT_KEY_HASH = 1 << 7,
	OPT_AFTER = 1 << 8,
	OPT_LIMIT = 1 << 9,
	OPT_ALL_OF_PROFILE = 1 << 10, /* --profile where it has no default */
	OPT_GLOBAL = 1 << 11,	      /* all that each command takes */
	OPT_FILTER = 1 << 12,	      /* which rows of the audit */
	OPT_UNTIL = 1 << 13,
	OPT_PLACE = 1 << 14, /* of a state */
	OPT_VERIFY = 1 << 15,
	OPT_EXPORT = 1 << 16,
	OPT_OUT = 1 << 17,
	OPT_PRUNE = 1 << 18,
	OPT_AS = 1 << 19,
	OPT_FOR = 1 << 20,	 /* whom a key is for */
	OPT_SUPERVISE = 1 << 24, /* exec stays, as a process of its own */
	OPT_NOW = 1 << 25,
	OPT_SPEND = 1 << 26,
};

#define OPTIONS_TEXTS_MAX 32

/* Of an option that may be given several times. */
struct option_texts {
	const char *items[OPTIONS_TEXTS_MAX];
	size_t n;
};

/* What was given; text is argv's. Numbers are < 0 where nothing was given. */
struct options {
	const char *socket, *admin_socket;
	const char *profile, *format, *lease, *key_hash, *unit, *event, *outcome, *as;
	int64_t timeout_ms, ttl_ms, min_valid_ms, uid, after, limit;
	int64_t since_ms, until_ms; /* Unix time */
	const char *state, *seal_key, *export_file, *key_file, *out, *watch_signal;
	struct option_texts heads;
	int64_t from, to;
	int64_t for_pid;
	bool for_parent;
	int64_t before_ms; /* Unix time */
	bool json, quiet, help, version, keep_env, system, only_new, not_exported, now, spend,
		restart_on_rotate;
};

void options_init(struct options *o);
/*
 * Parses up to the first operand, or, with `permute`, options among the operands too. Yields the
 * index of the first operand, or -1 after it has said on stderr what is wrong. argv[0] names the
 * program in these messages.
 */
int options_parse(struct options *o, unsigned allowed, bool permute, int argc, char **argv);
void options_help(FILE *f, unsigned which);
