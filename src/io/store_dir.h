/*
 * The place of the state: its directory, the files in it by their names, and the reserve. Only
 * io/store*.c and their tests include this.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/macros.h"

#define STORE_FILE "state.db"
#define STORE_RESERVE_FILE "reserve"

/* What tells a file from another one of its name; zeroes: there is none. */
struct store_file {
	dev_t dev;
	ino_t ino;
};
#define STORE_COMPANIONS 2 /* -wal and -shm */

int store_dir_open(const char *dir, char **ret_resolved, int *ret_fd) _must_check_;
/* Is `type` (statfs) a file system whose locks or shared memory don't hold between hosts? Its name,
 * or NULL. */
const char *store_network_fs(long type);
/* Creates the database file where missing and checks its owner and mode, and its companions'. */
int store_dir_files(const char *dir, int dir_fd) _must_check_;
/* Looks at the name alone. False if nobody can tell. */
bool store_dir_companion(int dir_fd, size_t which, struct store_file *ret);
const char *store_dir_companion_name(size_t which);
/* The 4 MiB that are given up when the disk is full. False if there is no room for them. */
bool store_reserve_make(int dir_fd);
void store_reserve_give_up(int dir_fd);
