/*
 * Reads the configuration: flag > environment > file > default. Each error goes to the log with its
 * place; each effective value keeps where it came from.
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "base/macros.h"
#include "core/config.h"
#include "io/config_env.h"

#define CONFIG_ERROR_SIZE 512

/* What is the same for each load of one process. All borrowed; NULL where nothing was said. */
struct config_request {
	const struct config_env *env; /* as it was at the start: see io/config_env.h */
	const char *config_file;      /* --config */
	bool system_mode;	      /* --system */
	const char *socket, *admin_socket, *state_dir, *instance, *log_level;
	const char *timing_file; /* --timing; a testing build only */
	char *first_error; /* NULL, or CONFIG_ERROR_SIZE bytes, empty: gets the first error's text
			    */
	bool draft;	   /* for --init: what is missing or doubtful is warned of only */
};

enum {
	CONFIG_E_INVALID = 1, /* each error has been logged */
	CONFIG_E_EXISTS = 2,  /* logged */
};

/* The file (and conf.d/ *.conf beside it), the environment, the flags, the keys; all validated. */
int config_load(const struct config_request *req, struct config **ret) _must_check_;
/* Logs the warnings. `reload`: says instead what only a restart reads again. */
void config_warn(const struct config *c, bool reload);
/* For --check: each effective value with its origin, secrets masked, then the warnings. */
void config_show(FILE *out, const struct config *c);
/* Where --init writes: --config, or the default place. free() it. */
char *config_file_place(const struct config_request *req) _must_check_;
/*
 * For --init: writes the effective configuration as a commented file, which loads as the same
 * again; never a key. CONFIG_E_EXISTS: there is such a file, and it stays.
 */
int config_init_file(const struct config *c, const char *path) _must_check_;
