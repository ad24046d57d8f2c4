/* The command line of keybrokerd. */
#pragma once

#include <stdbool.h>

#include "base/macros.h"
#include "io/config.h"

enum options_action {
	OPTIONS_RUN,
	OPTIONS_CHECK,		  /* --check: print the effective configuration */
	OPTIONS_INIT,		  /* --init: write it as a commented file */
	OPTIONS_INIT_SEAL,	  /* --init-seal: make the seal key if there is none */
	OPTIONS_LIST_FAIL_POINTS, /* a testing build only */
};

struct options {
	enum options_action action;
	bool reset_state;	       /* --reset-state: start with an empty state */
	struct config_request request; /* its texts stand in argv; main adds `env` */
};

enum {
	OPTIONS_E_DONE = 1,  /* --help or --version was printed: exit 0 */
	OPTIONS_E_USAGE = 2, /* the fault and a hint were printed on stderr: exit 64 */
};

int options_parse(int argc, char **argv, struct options *ret) _must_check_;
