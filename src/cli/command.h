/* The commands: their table and their handlers. */
#pragma once

#include <stddef.h>

#include "cli/cli.h"

/* The row for the words in `argv`, and how many of them name it; NULL if there is none. */
const struct command *command_find(int argc, char *const argv[], int *ret_words);
/* No command has these words: shows those that begin with the first (on stdout if that is what
 * was asked for, and then CLI_OK), or says that there is none; CLI_USAGE. */
int command_unknown(const struct cli *c, int argc, char *const argv[]);
/* All commands, or one. */
void command_print_overview(FILE *f);
void command_print_help(FILE *f, const struct command *command);

int command_exec(struct cli *c);
int command_get(struct cli *c);
int command_list(struct cli *c);
int command_whoami(struct cli *c);
int command_explain(struct cli *c);
int command_watch(struct cli *c);
int command_status(struct cli *c);
int command_leases(struct cli *c);
int command_rotate(struct cli *c);
int command_revoke(struct cli *c);
int command_import(struct cli *c);
int command_audit_read(struct cli *c);
int command_audit_follow(struct cli *c);
int command_audit_verify(struct cli *c);
int command_audit_export(struct cli *c);
int command_audit_prune(struct cli *c);
int command_audit_key(struct cli *c);
int command_reload(struct cli *c);
int command_sweep(struct cli *c);
int command_help(struct cli *c);
int command_version(struct cli *c);
