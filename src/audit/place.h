/* Which state is read, as whom, and with which keys. */
#pragma once

#include "audit/args.h"
#include "base/macros.h"
#include "io/store_view.h"

struct keyring;

struct place {
	char *state_dir;
	char *seal_key; /* its file */
	struct keyring *keyring;
	struct store_view *view;
	char install[STORE_INSTALL_SIZE];
};

/*
 * Finds the state as the broker does (--state, else the user's, else the system's if that alone is
 * there) and becomes its owner if we are root. 0 or the exit code, the reason said. Always to be
 * followed by place_deinit().
 */
int place_find(const struct args *a, struct place *p) _must_check_;
/* Reads the seal key and derives the keys. */
int place_keys(struct place *p) _must_check_;
/* Opens the state, which must be sealed with that key. */
int place_open(struct place *p) _must_check_;
void place_deinit(struct place *p);

/* What an outcome of the store means for who called; yields the exit code. */
int place_failed(const struct place *p, int r);
