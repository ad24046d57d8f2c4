/* What a configuration sets going, at the start and again at each reload. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "core/config_diff.h"
#include "daemon/daemon.h"
#include "daemon/listeners.h"
#include "daemon/server.h"
#include "daemon/shared.h"
#include "daemon/sweep.h"
#include "daemon/upstream.h"
#include "io/notify.h"

void daemon_limits(struct daemon *d)
{
	const struct server_limits limits = { .connections = d->config->max_connections,
					      .buffered_bytes = d->config->max_buffered_bytes,
					      .waiting = d->config->max_connections,
					      .idle_reap_ms = d->config->timing.idle_reap_ms };

	server_set_limits(d->server, &limits);
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

static void daemon_waits(struct daemon_reloaded *ret, const char *name)
{
	log_warning("%s changes at a restart only", name);
	if (ret->n_waits < ARRAY_SIZE(ret->waits))
		ret->waits[ret->n_waits++] = name;
}

/* Places and durability are fixed for the life of the process. */
static void daemon_keep_fixed(const struct daemon *d, struct config *next,
			      struct daemon_reloaded *ret)
{
	struct config *now = d->config;
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
			daemon_waits(ret, fixed[i].name);
		*fixed[i].now = *fixed[i].next;
		*fixed[i].next = keep;
	}
	if (now->upstream_url && !next->upstream_url) {
		daemon_waits(ret, "upstream");
		next->upstream_url = TAKE(now->upstream_url);
		next->master_key = TAKE(now->master_key);
		next->master_key_source = now->master_key_source;
	}
	if (listeners_differ(d->listeners, next))
		daemon_waits(ret, "listen");
	if (now->durability != next->durability)
		daemon_waits(ret, "durability");
	next->durability = now->durability;
}

bool daemon_reload(struct daemon *d, struct daemon_reloaded *ret)
{
	struct config_request request = d->options->request;
	_cleanup_(config_freep) struct config *next = NULL;
	struct config *old;

	notify_send("RELOADING=1\nMONOTONIC_USEC=%lld", (long long)clock_monotonic_nsec() / 1000);
	*ret = (struct daemon_reloaded){ 0 };
	request.first_error = ret->detail;
	if (config_load(&request, &next) != 0) {
		log_error(
			"reload: the configuration has errors (above); the old one stays in force");
		notify_send("READY=1");
		return false;
	}
	config_warn(next, true);
	daemon_keep_fixed(d, next, ret);
	d->keys_forbidden = false; /* perhaps that was changed too */
	old = d->config;
	d->config = TAKE(next);
	next = old;
	config_diff_describe(old, d->config, ret->detail, CONFIG_ERROR_SIZE);
	log_set_level(d->config->log_level);
	daemon_limits(d);
	d->timing = d->config->timing;
	if (!daemon_same_upstream(d->config, next) && daemon_upstream(d) < 0)
		log_error("reload: upstream cannot be set up; calls fail until the next reload");
	if (d->sweep_wanted)
		sweep_start(d->sweep);
	d->sweep_wanted = false;
	if (d->term)
		shared_configure(d);
	log_info("reloaded: %s", ret->detail);
	notify_send("READY=1");
	return true;
}
