/*
 * The parts of one running broker, wired by daemon.c. Passed to every module of this layer; each
 * part is owned here and freed in the reverse order.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/crypt.h"
#include "core/config.h"
#include "core/peer.h"
#include "daemon/options.h"
#include "daemon/resume.h"

struct accounts;
struct denials;
struct event;
struct event_base;
struct keyring;
struct keys;
struct leases;
struct server;
struct shared_list;
struct store;
struct sweep;
struct teams;
struct turn;
struct upstream;

struct daemon {
	const struct options *options;
	struct config *config;
	struct event_base *base;
	struct keyring *keyring;
	struct store *store;
	struct upstream *upstream; /* NULL: static profiles only */
	struct turn *turn;
	struct accounts *accounts;
	struct server *server;
	struct keys *keys;
	struct leases *leases;
	struct shared_list *shared;
	struct teams *teams;
	struct sweep *sweep;
	struct denials *denials;

	char boot_id[BOOT_ID_SIZE];
	char host[64];
	char user_id[96]; /* "keybroker:<install>": marks our keys upstream */
	uint64_t term;
	int64_t started_at_ms;
	bool keys_forbidden;  /* upstream forbids chosen keys: it chooses them, until told otherwise
			       */
	struct timing timing; /* the configuration's; upstream borrows it */
	struct event *events[6]; /* signals and ticks */
	struct resume resume;
	int64_t short_looked_ms; /* boot time */
	bool sweep_wanted;	 /* upstream has just been configured for the first time */
	bool stop_wanted;	 /* after this turn */
	bool stopping;		 /* nothing new is begun */
	bool failed; /* fenced, or the disk failed: nothing may be written or sent any more */
	int exit_code;
};

/* Runs a broker until it is told to stop; takes `config` over. The exit code, as sysexits.h. */
int daemon_run(const struct options *options, struct config *config);
/* The state's disk is full: leases can only end. Looks again once a second. */
bool daemon_is_short(struct daemon *d);
/* Ends the process after the current turn. */
void daemon_stop(struct daemon *d, int exit_code);
/* Reads the configuration again. False: the old one stays, and `ret_error` has the first of the
 * errors. */
bool daemon_reload(struct daemon *d, char ret_error[CONFIG_ERROR_SIZE]);
