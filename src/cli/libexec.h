/* Programs beside this one, for what it should not carry itself. */
#pragma once

#include "base/macros.h"

/* The path of a program in $KEYBROKER_LIBEXEC, beside this program (a build tree), or where it is
 * installed; the last of these if it is nowhere. free() it. */
char *libexec_find(const char *name) _must_check_;
/* Runs it with our descriptors and waits; argv[0] is its path. Its exit code, or one of ours with
 * the reason said. */
int libexec_run(char *const argv[]) _must_check_;
