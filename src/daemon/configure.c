/* What a configuration sets going, at the start and again at each reload. */
#include "daemon/configure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "core/config_diff.h"
#include "core/policy.h"
#include "daemon/account.h"
#include "daemon/daemon.h"
#include "daemon/key_work.h"
#include "daemon/listeners.h"
#include "daemon/pool.h"
#include "daemon/server.h"
#include "daemon/shared.h"
#include "daemon/sweep.h"
#include "daemon/teams.h"
#include "daemon/turn.h"
#include "daemon/upstream.h"
#include "io/notify.h"
#include "io/store_instance.h"
#include "io/store_rows.h"

/* For the store, upstream, the other instances, and what the libraries open. */
#define DAEMON_OWN_DESCRIPTORS 128

static int64_t daemon_connections(void *userdata, const struct peer *peer)
{
	const struct daemon *d = userdata;

	return policy_connections(d->config, peer);
}

/* What the clients may hold, of what the kernel lets this process open. */
static int64_t daemon_descriptors(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur > INT32_MAX)
		return 0;
	return MAX_OF((int64_t)files.rlim_cur - DAEMON_OWN_DESCRIPTORS, INT64_C(16));
}

void daemon_limits(struct daemon *d)
{
	const struct server_limits limits = { .connections = d->config->max_connections,
					      .connections_of = daemon_connections,
					      .buffered_bytes = d->config->max_buffered_bytes,
					      .waiting = d->config->max_requests,
					      .requests_per_second = d->config->requests_per_second,
					      .idle_reap_ms = d->config->timing.idle_reap_ms };

	server_set_limits(d->server, &limits);
	accounts_set_descriptors(d->accounts, daemon_descriptors());
}

static bool daemon_same_text(const char *a, const char *b)
{
	return (!a && !b) || (a && b && strcmp(a, b) == 0);
}

static bool daemon_same_secret(const struct secret *a, const struct secret *b)
{
	return (!a && !b) || (a && b && secret_equal(a, b));
}

/* Setting upstream anew ends the calls under way, so it is left alone when nothing about it
 * changed. */
static bool daemon_same_upstream(const struct config *a, const struct config *b)
{
	return daemon_same_text(a->upstream_url, b->upstream_url) &&
	       daemon_same_text(a->ca_file, b->ca_file) &&
	       daemon_same_secret(a->master_key, b->master_key);
}

int daemon_upstream(struct daemon *d)
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

/* --- reading it again --- */

struct reload {
	struct daemon *d;
	struct config *next; /* NULL: it has errors */
	struct daemon_reloaded what;
	bool quietly;
	daemon_reloaded_fn done;
	void *userdata;
};

static void reload_free(struct reload *l)
{
	if (l)
		config_free(l->next);
	free(l);
}
DEFINE_CLEANUP(struct reload, reload)

static void reload_waits(struct daemon_reloaded *what, const char *name)
{
	log_warning("%s changes at a restart only", name);
	if (what->n_waits < ARRAY_SIZE(what->waits))
		what->waits[what->n_waits++] = name;
}

/* Places and durability are fixed for the life of the process. */
static void reload_keep_fixed(const struct daemon *d, struct config *next,
			      struct daemon_reloaded *what)
{
	const struct config *now = d->config;
	const struct {
		const char *name;
		const char *now;
		char **next;
	} fixed[] = { { "state_dir", now->state_dir, &next->state_dir },
		      { "socket", now->socket_path, &next->socket_path },
		      { "admin_socket", now->admin_socket_path, &next->admin_socket_path },
		      { "instance", now->instance, &next->instance } };

	for (size_t i = 0; i < ARRAY_SIZE(fixed); i++) {
		if (strcmp(fixed[i].now, *fixed[i].next) == 0)
			continue;
		reload_waits(what, fixed[i].name);
		free(*fixed[i].next);
		*fixed[i].next = xstrdup(fixed[i].now);
	}
	if (now->upstream_url && !next->upstream_url) {
		reload_waits(what, "upstream");
		next->upstream_url = xstrdup(now->upstream_url);
		next->master_key = secret_copy(now->master_key);
		next->master_key_source = now->master_key_source;
	}
	if (listeners_differ(d->listeners, next))
		reload_waits(what, "listen");
	if (now->durability != next->durability)
		reload_waits(what, "durability");
	next->durability = now->durability;
}

/* `quietly`: what it says is most likely what the log has from the start. */
static struct reload *reload_read(struct daemon *d, bool quietly)
{
	struct config_request request = d->options->request;
	struct reload *l = xcalloc(1, sizeof(*l));

	notify_send("RELOADING=1\nMONOTONIC_USEC=%lld", (long long)clock_monotonic_nsec() / 1000);
	l->d = d;
	request.first_error = l->what.detail;
	if (config_load(&request, &l->next) != 0) {
		log_error(
			"reload: the configuration has errors (above); the old one stays in force");
		return l;
	}
	l->what.ok = true;
	l->quietly = quietly;
	if (!quietly)
		config_warn(l->next, true);
	reload_keep_fixed(d, l->next, &l->what);
	config_diff_describe(d->config, l->next, l->what.detail, CONFIG_ERROR_SIZE);
	l->what.master_changed = !daemon_same_secret(d->config->master_key, l->next->master_key);
	return l;
}

static void reload_apply(struct reload *l)
{
	struct daemon *d = l->d;
	struct config *old = d->config;
	bool upstream_changed, fixed_changed;
	bool serving = d->started_at_ms != 0;

	d->keys_forbidden = false; /* perhaps that was changed too */
	d->config = l->next;
	l->next = old;
	log_set_level(d->config->log_level);
	daemon_limits(d);
	d->timing = d->config->timing;
	upstream_changed = !daemon_same_upstream(d->config, old);
	fixed_changed = d->config->timing.fixed_max_ms != old->timing.fixed_max_ms;
	if (upstream_changed && daemon_upstream(d) < 0)
		log_error("reload: upstream cannot be set up; calls fail until the next reload");
	if (!daemon_same_text(d->config->upstream_url, old->upstream_url))
		keys_move(d);
	if (d->sweep_wanted)
		sweep_start(d->sweep);
	d->sweep_wanted = false;
	/* not before a new leader knows its keys: it would make others */
	if (serving) {
		shared_configure(d);
		pools_configure(d);
		teams_check(d);
	}
	if (serving && (upstream_changed || fixed_changed))
		keys_hurry(d); /* they may wait for what is not so any more */
	if (!l->quietly)
		log_info("reloaded: %s%s", l->what.detail,
			 l->what.master_changed ? "; the master key is another one" : "");
}

static void reload_recorded(void *userdata, int outcome)
{
	_cleanup_(reload_freep) struct reload *l = userdata;

	if (outcome == 0 && l->what.ok)
		reload_apply(l);
	notify_send("READY=1");
	l->done(l->userdata, outcome, &l->what);
}

static int reload_store(struct store *s, void *userdata)
{
	const struct reload *l = userdata;

	return l->what.ok ? store_count_reload(s) : 0;
}

void daemon_reload(struct daemon *d, const struct peer *by, daemon_reloaded_fn done, void *userdata)
{
	struct reload *l = reload_read(d, false);
	struct change *c = change_new(d->turn, reload_recorded, l);
	struct audit_row *a = change_audit(c, "reload", l->what.ok ? "ok" : "failed", by);

	l->done = done;
	l->userdata = userdata;
	(void)snprintf(a->detail, sizeof(a->detail), "%s%s", by ? "" : "SIGHUP: ", l->what.detail);
	change_store(c, reload_store);
	change_submit(c);
}

static void daemon_reread_as(struct daemon *d, bool quietly)
{
	_cleanup_(reload_freep) struct reload *l = reload_read(d, quietly);

	if (l->what.ok)
		reload_apply(l);
	notify_send("READY=1");
}

void daemon_reread(struct daemon *d)
{
	daemon_reread_as(d, false);
}

void daemon_follow_reloads(struct daemon *d)
{
	int64_t n = store_reloads(d->store);
	bool first = d->reloads < 0;

	if (n < 0 || n == d->reloads)
		return; /* nothing new, or not to be read now */
	d->reloads = n;
	daemon_reread_as(d, first);
}
