/*
 * Where things are if nothing else is said: the system's places if systemd set RUNTIME_DIRECTORY
 * and STATE_DIRECTORY or with --system, else the user's (XDG), for root too.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/macros.h"

struct paths {
	bool system_mode;
	char *config_file;
	char *state_dir;
	char *socket;
	char *seal_key;
};

/* Reads the environment, makes nothing. `system`: --system. All texts are absolute paths. */
void paths_init(struct paths *ret, bool system);
void paths_deinit(struct paths *p);
/* keybroker-admin/admin.sock beside the directory of the clients' socket. free() it. */
char *paths_admin_socket(const char *socket) _must_check_;
/* `path` under the current directory unless it is absolute. free() it. */
char *paths_absolute(const char *path) _must_check_;
/* Makes the directories that lead to the file `path`, with `mode` where they are missing. */
int paths_make_dirs(const char *path, mode_t mode) _must_check_;
