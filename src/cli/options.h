/* The options of the command line: one table, from which parser and help are made. */
#pragma once

#include <stdbool.h>
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
};

/* What was given; text is argv's. Numbers are < 0 where nothing was given. */
struct options {
	const char *socket, *admin_socket;
	const char *profile, *format, *lease, *key_hash;
	int64_t timeout_ms, ttl_ms, min_valid_ms, uid, after, limit;
	bool json, quiet, help, version, keep_env;
};

void options_init(struct options *o);
/*
 * Parses up to the first operand, or, with `permute`, options among the operands too. Yields the
 * index of the first operand, or -1 after it has said on stderr what is wrong. argv[0] names the
 * program in these messages.
 */
int options_parse(struct options *o, unsigned allowed, bool permute, int argc, char **argv);
void options_help(FILE *f, unsigned which);
