/* The command line of the audit program: one table, from which parser and help are made. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/audit_chain.h"

#define ARGS_HEADS_MAX 64

enum args_command { ARGS_VERIFY, ARGS_EXPORT, ARGS_KEY };

/* What was given; texts are argv's, NULL where nothing was given. */
struct args {
	enum args_command command;
	const char *state, *seal_key;
	bool system_mode;
	bool json, quiet;
	struct chain_head heads[ARGS_HEADS_MAX];
	size_t n_heads;
	const char *export_file, *key_file; /* verify: an export instead of a state */
	const char *out;		    /* key */
	int64_t from, to;		    /* export; 0: not given */
	int64_t verdict_fd;		    /* verify; 0: not given */
};

enum { ARGS_E_DONE = 1, ARGS_E_USAGE = 2 };

/* ARGS_E_DONE: the help was printed; ARGS_E_USAGE: said on stderr what is wrong. */
int args_parse(int argc, char **argv, struct args *ret) _must_check_;

/* A line on stderr for the person who called: "keybroker audit: …". */
void args_say(const char *fmt, ...) _printf_(1, 2);
