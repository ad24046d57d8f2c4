/*
 * Wires the parts of a broker, runs the loop, and stops it cleanly: stop reading, finish the turn,
 * vacate the leader row, exit. Owns struct daemon.
 */
#include "daemon/daemon.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "daemon/account.h"
#include "daemon/configure.h"
#include "daemon/denials.h"
#include "daemon/fail.h"
#include "daemon/head.h"
#include "daemon/keys.h"
#include "daemon/leases.h"
#include "daemon/listeners.h"
#include "daemon/op_spend.h"
#include "daemon/pool.h"
#include "daemon/op.h"
#include "daemon/op_audit_prune.h"
#include "daemon/readers.h"
#include "daemon/recover.h"
#include "daemon/report.h"
#include "daemon/revoke_wait.h"
#include "daemon/roll.h"
#include "daemon/server.h"
#include "daemon/shared.h"
#include "daemon/standby.h"
#include "daemon/start.h"
#include "daemon/sweep.h"
#include "daemon/teams.h"
#include "daemon/turn.h"
#include "daemon/upstream.h"
#include "daemon/watch.h"
#include "io/notify.h"
#include "io/store_guard.h"
#include "io/store_instance.h"
#include "io/store_rows.h"

/* What is over leaves the state so many rows at a time. */
#define DAEMON_PRUNE_ROWS 2000
/* Who stops waits this often for the state's lock. */
#define DAEMON_STOP_TRIES 10

void daemon_stop(struct daemon *d, int exit_code)
{
	d->stop_wanted = true;
	d->exit_code = exit_code;
}

/* Busy or full: the next time will do. */
void daemon_mind_store(struct daemon *d, int r)
{
	if (!store_outcome_is_final(r))
		return;
	if (r == -EIO)
		log_error(
			"the disk failed in a commit: nobody knows what is on it now, so this process ends");
	else
		log_error("%s: this process ends", store_outcome_text((enum store_outcome)r));
	if (r == STORE_E_MOVED && !d->failed)
		head_say(d); /* what is at its place now may lack the last rows */
	d->failed = true;
	daemon_stop(d, r == -EIO ? EX_IOERR : EX_TEMPFAIL);
}

/* Before each upstream send: does this process still lead? A fenced one must not touch upstream
 * again. */
bool daemon_is_leader(void *userdata)
{
	struct daemon *d = userdata;
	int r = store_check_term(d->store);

	daemon_mind_store(d, r);
	return r == 0;
}

/* It has happened, so it must be on record, if not at once. */
static void daemon_note(struct daemon *d, const char *event, const char *outcome,
			const char *detail)
{
	struct change *c = change_new(d->turn, NULL, NULL);
	struct audit_row *a = change_audit(c, event, outcome, NULL);

	(void)snprintf(a->detail, sizeof(a->detail), "%s", detail);
	change_vital(c);
	change_kept(c);
	change_submit(c);
}

static void daemon_on_reloaded(void *userdata, int outcome, const struct daemon_reloaded *what)
{
	struct daemon *d = userdata;
	char why[TURN_WHY_SIZE];

	(void)what;
	d->reload_wanted = outcome != 0;
	if (outcome != 0)
		log_error("%s; the old configuration stays until it can be",
			  turn_why(outcome, "a reload", why));
}

static void daemon_on_hup(struct daemon *d)
{
	d->reread = !d->term; /* on record when it leads */
	if (d->term)
		daemon_reload(d, NULL, daemon_on_reloaded, d);
	else
		daemon_reread(d);
}

static void daemon_on_signal(int sig, short what, void *userdata)
{
	struct daemon *d = userdata;

	(void)what;
	if (sig != SIGHUP)
		daemon_stop(d, EX_OK);
	else
		daemon_on_hup(d);
}

bool daemon_is_short(struct daemon *d)
{
	int64_t now = clock_now().boot_ms;

	if (store_is_short(d->store) && now - d->short_looked_ms >= 1000) {
		d->short_looked_ms = now;
		daemon_mind_store(
			d,
			store_checkpoint(d->store)); /* takes its reserve back if there is room */
	}
	return store_is_short(d->store);
}

static void daemon_on_tick(int fd, short what, void *userdata)
{
	struct daemon *d = userdata;

	(void)fd;
	(void)what;
	resume_check(&d->resume, d);
	daemon_mind_store(d, store_checkpoint(d->store));
	turn_say_over(d->turn, STORE_E_FULL);
	space_check(d);
}

/* What is over is kept for a while, for people who look into it; the audit has it for ever. */
static void daemon_on_prune(int fd, short what, void *userdata)
{
	struct daemon *d = userdata;
	int r = store_begin(d->store);

	(void)fd;
	(void)what;
	if (r == 0) {
		r = store_prune(d->store, clock_now().wall_ms - DAEMON_KEEP_PAST_MS,
				DAEMON_PRUNE_ROWS);
		if (r == 0)
			r = store_commit(d->store);
		else
			store_rollback(d->store);
	}
	daemon_mind_store(d, r);
}

static void daemon_on_sync(int fd, short what, void *userdata)
{
	struct daemon *d = userdata;

	(void)fd;
	(void)what;
	daemon_mind_store(d, store_sync(d->store));
}

static void daemon_on_roll(int fd, short what, void *userdata)
{
	struct daemon *d = userdata;
	int r;

	(void)fd;
	(void)what;
	(void)turn_retry(d->turn);
	if (TAKE(d->reload_wanted))
		daemon_on_hup(d);
	r = store_check_place(d->store); /* an idle leader writes nothing that would tell */
	daemon_mind_store(d, r != 0 ? r : roll_call(d->roll));
	listeners_mind(d->listeners);
}

static void daemon_on_head(int fd, short what, void *userdata)
{
	struct daemon *d = userdata;

	(void)fd;
	(void)what;
	daemon_mind_store(d, head_log(d));
}

static bool daemon_every(struct daemon *d, size_t slot, int64_t ms, event_callback_fn fn)
{
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	d->events[slot] = event_new(d->base, -1, EV_PERSIST, fn, d);
	return d->events[slot] && event_add(d->events[slot], &tv) == 0;
}

static bool daemon_signals(struct daemon *d)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
	bool ok = true;

	for (size_t i = 0; i < ARRAY_SIZE(signals) && ok; i++) {
		d->events[i] = evsignal_new(d->base, signals[i], daemon_on_signal, d);
		ok = d->events[i] && event_add(d->events[i], NULL) == 0;
	}
	return ok;
}

/* What only a leader does. */
static bool daemon_ticks(struct daemon *d)
{
	const struct timing *t = &d->config->timing;

	resume_init(&d->resume);
	return daemon_every(d, 3, t->checkpoint_every_ms, daemon_on_tick) &&
	       (d->config->durability != DURABILITY_CRASH ||
		daemon_every(d, 4, t->power_sync_ms, daemon_on_sync)) &&
	       daemon_every(d, 5, t->sweep_every_ms, daemon_on_prune) &&
	       daemon_every(d, 6, t->leader_tick_ms, daemon_on_roll) &&
	       daemon_every(d, 7, t->audit_head_ms, daemon_on_head);
}

static int daemon_parts(struct daemon *d)
{
	struct event_config *wanted = event_config_new();

	if (!wanted)
		return EX_OSERR;
	/* Milliseconds matter here (leases, retries), and a coarse clock is off by up to 4. */
	(void)event_config_set_flag(wanted, EVENT_BASE_FLAG_PRECISE_TIMER);
	d->base = event_base_new_with_config(wanted);
	event_config_free(wanted);
	if (!d->base)
		return EX_OSERR;
	(void)gethostname(d->host, sizeof(d->host) - 1); /* "" will do */
	d->turn = turn_new(d);
	d->accounts = accounts_new();
	d->keys = keys_new(d);
	d->leases = leases_new(d);
	d->shared = shared_list_new();
	d->pools = pools_new();
	d->teams = teams_new(d);
	d->sweep = sweep_new(d);
	d->denials = denials_new(d);
	d->roll = roll_new(d);
	d->prune = audit_prune_new(d);
	d->readers = readers_new(d);
	d->watch = watch_new(d);
	if (server_new(&d->server, d->base, d->accounts, dispatch, d) < 0)
		return EX_OSERR;
	daemon_limits(d);
	if (daemon_upstream(d) < 0)
		return EX_OSERR;
	return listeners_new(d);
}

static void daemon_ready(const struct daemon *d)
{
	_cleanup_(freep) char *names = xstrdup("");

	for (size_t i = 0; i < d->config->n_profiles; i++) {
		char *longer =
			xasprintf("%s%s%s", names, i ? ", " : "", d->config->profiles[i].name);

		free(names);
		names = longer;
	}
	log_info("READY on %s; profiles: %s; next: keybroker exec -- COMMAND",
		 d->config->socket_path, names);
	notify_send("READY=1\nSTATUS=leading, term %llu", (unsigned long long)d->term);
}

static int daemon_lead(struct daemon *d)
{
	int r;

	FAIL_POINT("lead.after_claim");
	(void)snprintf(d->user_id, sizeof(d->user_id), "keybroker:%s", store_install(d->store));
	if (d->set_aside)
		start_tell_of_old_keys(d);
	if (d->reloads >= 0)
		daemon_follow_reloads(d); /* else it has just been read */
	if (!daemon_ticks(d))
		return EX_OSERR;
	daemon_note(d, "lead", "ok", d->succession); /* the first row of a term says whose it is */
	if (*store_tampering(d->store))
		daemon_note(d, "tampering", "found", store_tampering(d->store));
	if (d->reread)
		daemon_note(d, "reload", "ok", "SIGHUP, while this instance stood by");
	if (recover(d) < 0) {
		log_error("the state cannot be read");
		return EX_IOERR;
	}
	r = turn_end(d->turn);
	if (r != 0)
		return r == -EIO ? EX_IOERR : EX_TEMPFAIL;
	daemon_mind_store(d, head_log(d));
	r = listeners_serve(d->listeners);
	if (r != 0)
		return r;
	d->started_at_ms = clock_now().wall_ms;
	space_check(d);
	daemon_ready(d);
	recover_go(d);
	sweep_start(d->sweep);
	return 0;
}

static void daemon_end_turn(struct daemon *d)
{
	daemon_mind_store(d, turn_end(d->turn));
	if (!d->failed) {
		watch_run(d->watch);
		readers_run(d->readers);
	}
	if (!d->stop_wanted && store_log_is_long(d->store))
		daemon_mind_store(d, store_checkpoint(d->store));
}

/* What was begun just now, or did not fit into the last turn, must not wait for the next event. */
static bool daemon_is_busy(const struct daemon *d)
{
	return turn_is_pending(d->turn) || readers_are_busy(d->readers);
}

/* ONCE also where it may not wait: NONBLOCK alone goes on as long as anything is active, and a
 * timer that is due again each time would keep the turn from its end. */
static void daemon_pass(struct daemon *d, bool wait)
{
	if (event_base_loop(d->base, EVLOOP_ONCE | (wait ? 0 : EVLOOP_NONBLOCK)) < 0) {
		log_error("the event loop failed");
		daemon_stop(d, EX_OSERR);
	}
}

/* A commit costs as much as many requests: what has come meanwhile goes with it, as long as there
 * is room in the turn. */
static void daemon_gather(struct daemon *d)
{
	int room = server_turn_room(d->server);
	int before;

	do {
		before = room;
		if (before == 0 || d->stop_wanted || !turn_is_pending(d->turn))
			return;
		daemon_pass(d, false);
		room = server_turn_room(d->server);
	} while (room < before);
}

static void daemon_loop(struct daemon *d)
{
	while (!d->stop_wanted) {
		server_begin_turn(d->server);
		daemon_pass(d, !daemon_is_busy(d));
		daemon_gather(d);
		daemon_end_turn(d);
	}
}

/* Who waits is told to ask again: the next leader has the intents. */
static void daemon_turn_away(struct daemon *d)
{
	shared_stop(d);
	spend_stop(d);
	readers_stop(d->readers);
	revoke_wait_stop(d);
	sweep_fail_all(d->sweep, PROTO_NOT_LEADER, 100, "this broker is stopping; ask again");
	watch_stop(d->watch);
	/* Its waiters may be the last to hold other keys, never itself: those of a deleted one have
	 * been answered. */
	for (struct key *k = keys_first(d->keys); k; k = keys_next(k)) {
		acquire_fail_all(&k->waiters, PROTO_NOT_LEADER, 100,
				 "this broker is stopping; ask again");
		report_stop(k);
	}
}

static void daemon_vacate(struct daemon *d)
{
	if (store_vacate(d->store) != 0)
		log_warning(
			"the leader row could not be vacated: a successor finds out by our death");
}

static void daemon_end(struct daemon *d)
{
	int tries = DAEMON_STOP_TRIES;

	d->stopping = true;
	notify_send("STOPPING=1");
	server_stop(d->server);
	daemon_turn_away(d);
	if (d->failed)
		return; /* fenced, or the disk is not to be trusted: not one write more */
	denials_flush(d);
	audit_prune_stop(d);
	daemon_note(d, "stop", "ok", "");
	do
		daemon_end_turn(d);
	while (!d->failed && --tries > 0 && turn_retry(d->turn));
	if (tries == 0)
		log_warning("this stop could not be recorded");
	if (!d->failed)
		daemon_mind_store(d, head_log(d));
	if (!d->failed)
		daemon_vacate(d);
	log_info("stopped");
}

static void daemon_free(struct daemon *d)
{
	if (d->store && d->self.holder[0] && store_unregister(d->store, d->self.holder) != 0)
		log_debug("this instance's row stays until another one finds it dead");
	listeners_free(d->listeners);
	roll_free(d->roll);
	turn_free(d->turn);
	sweep_free(d->sweep);
	teams_free(d->teams);
	leases_free(d->leases);
	keys_free(d->keys);
	pools_free(d->pools);
	shared_list_free(d->shared); /* after the keys, which look at their profile when they go */
	upstream_free(d->upstream);  /* after those whose calls it carries */
	denials_free(d->denials);
	audit_prune_free(d->prune);
	readers_free(d->readers);
	watch_free(d->watch);
	server_free(d->server);
	accounts_free(d->accounts);
	for (size_t i = 0; i < ARRAY_SIZE(d->events); i++)
		if (d->events[i])
			event_free(d->events[i]);
	if (d->base)
		event_base_free(d->base);
	store_free(d->store);
	keyring_free(d->keyring);
	config_free(d->config);
}

int daemon_run(const struct options *options, struct config *config)
{
	struct daemon d = { .options = options, .config = config, .reloads = -1 };
	int r;

	config_warn(config, false);
	(void)start_process(); /* warns of what it could not do */
	r = start_state(&d);
	r = r ? r : daemon_parts(&d);
	if (r == 0 &&
	    !daemon_signals(&d)) /* before READY: who is told that we serve may signal us */
		r = EX_OSERR;
	r = r ? r : standby_run(&d);
	if (r == 0 && d.term)
		r = daemon_lead(&d);
	if (r == 0 && d.term) {
		daemon_loop(&d);
		daemon_end(&d);
		r = d.exit_code;
		if (d.failed)
			_exit(r); /* requests are still waiting for a commit that nobody knows of */
	} else if (d.store && d.term) {
		daemon_vacate(&d);
	}
	daemon_free(&d);
	return r;
}
