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
#include "base/secret.h"
#include "daemon/account.h"
#include "daemon/denials.h"
#include "daemon/keys.h"
#include "daemon/leases.h"
#include "daemon/op.h"
#include "daemon/recover.h"
#include "daemon/server.h"
#include "daemon/shared.h"
#include "daemon/start.h"
#include "daemon/sweep.h"
#include "daemon/teams.h"
#include "daemon/turn.h"
#include "daemon/upstream.h"
#include "io/notify.h"
#include "io/store.h"
#include "io/store_rows.h"

/* Ended leases and deleted keys stay in the state this long, and go so many at a time. */
#define DAEMON_KEEP_PAST_MS (INT64_C(7) * 24 * 3600 * 1000)
#define DAEMON_PRUNE_ROWS 2000

void daemon_stop(struct daemon *d, int exit_code)
{
	d->stop_wanted = true;
	d->exit_code = exit_code;
}

static void daemon_limits(struct daemon *d)
{
	const struct server_limits limits = { .connections = d->config->max_connections,
					      .buffered_bytes = d->config->max_buffered_bytes,
					      .waiting = d->config->max_connections,
					      .idle_reap_ms = d->config->timing.idle_reap_ms };

	server_set_limits(d->server, &limits);
}

/* What a store's outcome means for the process. Busy or full: the next time will do. */
static void daemon_mind_store(struct daemon *d, int r)
{
	if (r != -EIO && r != STORE_E_FENCED)
		return;
	log_error(
		r == -EIO
			? "the disk failed in a commit: nobody knows what is on it now, so this process ends"
			: "another broker leads now: this process ends");
	d->failed = true;
	daemon_stop(d, r == -EIO ? EX_IOERR : EX_TEMPFAIL);
}

/* Before each upstream send: does this process still lead? A fenced one must not touch upstream
 * again. */
static bool daemon_is_leader(void *userdata)
{
	struct daemon *d = userdata;
	int r = store_check_term(d->store);

	daemon_mind_store(d, r);
	return r == 0;
}

static bool daemon_same_text(const char *a, const char *b)
{
	return (!a && !b) || (a && b && strcmp(a, b) == 0);
}

/* Setting upstream anew ends the calls under way, so it is left alone when nothing about it
 * changed. */
static bool daemon_same_upstream(const struct config *a, const struct config *b)
{
	return daemon_same_text(a->upstream_url, b->upstream_url) &&
	       daemon_same_text(a->ca_file, b->ca_file) && a->master_key && b->master_key &&
	       secret_equal(a->master_key, b->master_key);
}

static int daemon_upstream(struct daemon *d)
{
	int r;

	d->timing = d->config->timing;
	if (!d->config->upstream_url)
		return 0;
	if (!d->upstream) {
		r = upstream_new(&d->upstream, d->base, &d->timing, daemon_is_leader, d);
		if (r < 0)
			return r;
		d->sweep_wanted = d->started_at_ms != 0;
	}
	return upstream_set(d->upstream, d->config->upstream_url, d->config->ca_file,
			    d->config->master_key);
}

/* Places and durability are fixed for the life of the process. */
static void daemon_keep_fixed(struct config *now, struct config *next)
{
	struct {
		const char *name;
		char **now, **next;
	} fixed[] = { { "state_dir", &now->state_dir, &next->state_dir },
		      { "socket", &now->socket_path, &next->socket_path },
		      { "admin_socket", &now->admin_socket_path, &next->admin_socket_path },
		      { "instance", &now->instance, &next->instance } };

	for (size_t i = 0; i < ARRAY_SIZE(fixed); i++) {
		char *keep = *fixed[i].now;

		if (strcmp(keep, *fixed[i].next) != 0)
			log_warning("%s changes at a restart only", fixed[i].name);
		*fixed[i].now = *fixed[i].next;
		*fixed[i].next = keep;
	}
	if (now->upstream_url && !next->upstream_url) {
		log_warning("upstream can be taken away at a restart only");
		next->upstream_url = TAKE(now->upstream_url);
		next->master_key = TAKE(now->master_key);
		next->master_key_source = now->master_key_source;
	}
	if (now->durability != next->durability)
		log_warning("durability changes at a restart only");
	next->durability = now->durability;
}

bool daemon_reload(struct daemon *d, char ret_error[CONFIG_ERROR_SIZE])
{
	struct config_request request = d->options->request;
	_cleanup_(config_freep) struct config *next = NULL;
	struct config *old;

	notify_send("RELOADING=1\nMONOTONIC_USEC=%lld", (long long)clock_monotonic_nsec() / 1000);
	ret_error[0] = '\0';
	request.first_error = ret_error;
	if (config_load(&request, &next) != 0) {
		log_error(
			"reload: the configuration has errors (above); the old one stays in force");
		notify_send("READY=1");
		return false;
	}
	config_warn(next, true);
	daemon_keep_fixed(d->config, next);
	d->keys_forbidden = false; /* perhaps that was changed too */
	old = d->config;
	d->config = TAKE(next);
	next = old;
	log_set_level(d->config->log_level);
	daemon_limits(d);
	d->timing = d->config->timing;
	if (!daemon_same_upstream(d->config, next) && daemon_upstream(d) < 0)
		log_error("reload: upstream cannot be set up; calls fail until the next reload");
	if (d->sweep_wanted)
		sweep_start(d->sweep);
	d->sweep_wanted = false;
	shared_configure(d);
	log_info("reloaded: %zu profiles, %zu rules", d->config->n_profiles, d->config->n_rules);
	notify_send("READY=1");
	return true;
}

static void daemon_note(struct daemon *d, const char *event, const char *detail)
{
	struct change *c = change_new(d->turn, NULL, NULL);
	struct audit_row *a = change_audit(c, event, "ok", NULL);

	(void)snprintf(a->detail, sizeof(a->detail), "%s", detail);
	change_submit(c);
}

static void daemon_on_signal(int sig, short what, void *userdata)
{
	struct daemon *d = userdata;
	char error[CONFIG_ERROR_SIZE];

	(void)what;
	if (sig != SIGHUP)
		daemon_stop(d, EX_OK);
	else if (daemon_reload(d, error))
		daemon_note(d, "reload", "SIGHUP");
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

static bool daemon_every(struct daemon *d, size_t slot, int64_t ms, event_callback_fn fn)
{
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	d->events[slot] = event_new(d->base, -1, EV_PERSIST, fn, d);
	return d->events[slot] && event_add(d->events[slot], &tv) == 0;
}

static bool daemon_events(struct daemon *d)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
	bool ok = true;

	resume_init(&d->resume);
	for (size_t i = 0; i < ARRAY_SIZE(signals) && ok; i++) {
		d->events[i] = evsignal_new(d->base, signals[i], daemon_on_signal, d);
		ok = d->events[i] && event_add(d->events[i], NULL) == 0;
	}
	ok = ok && daemon_every(d, 3, d->config->timing.checkpoint_every_ms, daemon_on_tick);
	ok = ok && daemon_every(d, 5, d->config->timing.sweep_every_ms, daemon_on_prune);
	if (d->config->durability == DURABILITY_CRASH)
		ok = ok && daemon_every(d, 4, d->config->timing.power_sync_ms, daemon_on_sync);
	return ok;
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
	d->teams = teams_new(d);
	d->sweep = sweep_new(d);
	d->denials = denials_new(d);
	if (server_new(&d->server, d->base, d->accounts, dispatch, d) < 0)
		return EX_OSERR;
	daemon_limits(d);
	return daemon_upstream(d) < 0 ? EX_OSERR : 0;
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
	char detail[96];
	int r;

	if (recover(d) < 0) {
		log_error("the state cannot be read");
		return EX_IOERR;
	}
	(void)snprintf(detail, sizeof(detail), "term %llu, pid %d", (unsigned long long)d->term,
		       (int)getpid());
	daemon_note(d, "lead", detail);
	r = turn_end(d->turn);
	if (r != 0)
		return r == -EIO ? EX_IOERR : EX_TEMPFAIL;
	r = start_sockets(d);
	if (r != 0)
		return r;
	d->started_at_ms = clock_now().wall_ms;
	daemon_ready(d);
	recover_go(d);
	sweep_start(d->sweep);
	return 0;
}

static void daemon_end_turn(struct daemon *d)
{
	daemon_mind_store(d, turn_end(d->turn));
}

static void daemon_loop(struct daemon *d)
{
	while (!d->stop_wanted) {
		server_begin_turn(d->server);
		/* What was begun just now, or did not fit into the last turn, must not wait for the
		 * next event. */
		if (event_base_loop(d->base,
				    turn_is_pending(d->turn) ? EVLOOP_NONBLOCK : EVLOOP_ONCE) < 0) {
			log_error("the event loop failed");
			daemon_stop(d, EX_OSERR);
		}
		daemon_end_turn(d);
	}
}

/* Who waits is told to ask again: the next leader has the intents. */
static void daemon_turn_away(struct daemon *d)
{
	struct key *k, *next;

	shared_stop(d);
	for (k = keys_first(d->keys); k; k = next) {
		next = keys_next(k);
		key_pin(k); /* its last waiter may be its last holder */
		acquire_fail_all(&k->waiters, PROTO_NOT_LEADER, 100,
				 "this broker is stopping; ask again");
		key_unpin(k);
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
	d->stopping = true;
	notify_send("STOPPING=1");
	server_stop(d->server);
	daemon_turn_away(d);
	if (d->failed)
		return; /* fenced, or the disk is not to be trusted: not one write more */
	denials_flush(d);
	daemon_note(d, "stop", "");
	daemon_end_turn(d);
	if (!d->failed)
		daemon_vacate(d);
	log_info("stopped");
}

static void daemon_free(struct daemon *d)
{
	turn_free(d->turn);
	sweep_free(d->sweep);
	teams_free(d->teams);
	leases_free(d->leases);
	keys_free(d->keys);
	shared_list_free(d->shared); /* after the keys, which look at their profile when they go */
	upstream_free(d->upstream);  /* after those whose calls it carries */
	denials_free(d->denials);
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
	struct daemon d = { .options = options, .config = config };
	int r;

	config_warn(config, false);
	(void)start_process(); /* warns of what it could not do */
	r = start_state(&d);
	r = r ? r : daemon_parts(&d);
	if (r == 0 &&
	    !daemon_events(&d)) /* before READY: who is told that we serve may signal us */
		r = EX_OSERR;
	r = r ? r : daemon_lead(&d);
	if (r == 0) {
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
