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
#include "daemon/space.h"
#include "io/store.h"

struct accounts;
struct audit_prune;
struct denials;
struct event;
struct event_base;
struct keys;
struct leases;
struct listeners;
struct pools;
struct readers;
struct revoke_wait;
struct roll;
struct server;
struct peer;
struct shared_list;
struct spend;
struct sweep;
struct teams;
struct turn;
struct upstream;
struct watch;

/* Ended leases and deleted keys stay in the state this long. */
#define DAEMON_KEEP_PAST_MS (INT64_C(7) * 24 * 3600 * 1000)

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
	struct listeners *listeners;
	struct roll *roll;
	struct keys *keys;
	struct leases *leases;
	struct shared_list *shared;
	struct pools *pools;
	struct teams *teams;
	struct sweep *sweep;
	struct spend *spend; /* under way, or kept for its next pages; NULL */
	struct denials *denials;
	struct audit_prune *prune;
	struct readers *readers;
	struct revoke_wait *revoke_waits; /* a list; owned by those who wait */
	struct watch *watch;

	char boot_id[BOOT_ID_SIZE];
	char host[64];
	char user_id[96];     /* "keybroker:<install>": marks our keys upstream */
	struct leader self;   /* this instance, as the others see it */
	uint64_t term;	      /* 0: a standby */
	char succession[256]; /* for the audit: whose term this is, and whose was the one before */
	int64_t reloads;      /* those of all terms that this instance goes by; -1: not asked yet */
	uint64_t head_logged; /* sequence of the audit's head that the log has */
	int64_t started_at_ms;
	struct timing timing;	 /* the configuration's; upstream borrows it */
	struct event *events[8]; /* signals and ticks */
	struct resume resume;
	struct space space;
	int64_t short_looked_ms; /* boot time */
	bool took_over;		 /* from a leader that this instance had watched */
	bool reread;		 /* a signal had the configuration read while it stood by */
	bool reload_wanted;	 /* a signal asked for it, and that could not be recorded */
	bool keys_forbidden;	 /* upstream forbids chosen keys: it chooses them */
	bool set_aside;		 /* an old state was, by --reset-state */
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
/* What a store's outcome means for the process: -EIO and STORE_E_FENCED end it. */
void daemon_mind_store(struct daemon *d, int r);
/* Ends the process after the current turn. */
void daemon_stop(struct daemon *d, int exit_code);
/* Before each upstream send: does this process still lead? `userdata`: the daemon. */
bool daemon_is_leader(void *userdata);
