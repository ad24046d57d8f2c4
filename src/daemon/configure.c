/* What a configuration sets going, at the start and again at each reload. */
#include <stdio.h>
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
#include "daemon/server.h"
#include "daemon/shared.h"
#include "daemon/sweep.h"
#include "daemon/upstream.h"
#include "io/notify.h"

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

static void daemon_waits(struct daemon_reloaded *ret, const char *name)
{
	log_warning("%s changes at a restart only", name);
	if (ret->n_waits < ARRAY_SIZE(ret->waits))
		ret->waits[ret->n_waits++] = name;
}

/* Places and durability are fixed for the life of the process. */
static void daemon_keep_fixed(struct config *now, struct config *next, struct daemon_reloaded *ret)
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
	if (now->durability != next->durability)
		daemon_waits(ret, "durability");
	next->durability = now->durability;
}

bool daemon_reload(struct daemon *d, struct daemon_reloaded *ret)
{
	struct config_request request = d->options->request;
	_cleanup_(config_freep) struct config *next = NULL;
	struct config *old;
	bool upstream_changed;

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
	daemon_keep_fixed(d->config, next, ret);
	d->keys_forbidden = false; /* perhaps that was changed too */
	old = d->config;
	d->config = TAKE(next);
	next = old;
	config_diff_describe(old, d->config, ret->detail, CONFIG_ERROR_SIZE);
	log_set_level(d->config->log_level);
	daemon_limits(d);
	d->timing = d->config->timing;
	ret->master_changed = !daemon_same_secret(d->config->master_key, next->master_key);
	upstream_changed = !daemon_same_upstream(d->config, next);
	if (upstream_changed && daemon_upstream(d) < 0)
		log_error("reload: upstream cannot be set up; calls fail until the next reload");
	if (d->sweep_wanted)
		sweep_start(d->sweep);
	d->sweep_wanted = false;
	if (d->term)
		shared_configure(d);
	if (d->term && upstream_changed)
		keys_hurry(d);
	log_info("reloaded: %s%s", ret->detail,
		 ret->master_changed ? "; the master key is another one" : "");
	notify_send("READY=1");
	return true;
}
