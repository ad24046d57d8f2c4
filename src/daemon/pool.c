/*
 * Keeps pools full in the background, a few mints at a time. Owns the pools; their keys are owned
 * by the table of keys. A key counts until its row has left the pool on the disk, so that a failed
 * commit or a slow burn never makes one too many.
 */
#include "daemon/pool.h"

#include <event2/event.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "daemon/acquire.h"
#include "daemon/daemon.h"
#include "daemon/fail.h"
#include "daemon/key_work.h"
#include "daemon/keys.h"
#include "daemon/request.h"
#include "daemon/turn.h"
#include "io/store.h"

#define POOL_MINTS 4 /* at once; one as long as upstream does not answer */
#define POOL_SHORT_ID 8
#define POOL_RETRY_MS 1000 /* what could not be written down */

TAILQ_HEAD(pool_keys, key);

struct pool {
	struct daemon *d;
	char name[PROFILE_NAME_MAX];
	struct pool_keys keys; /* intents and live ones */
	unsigned failures;     /* in a row: the pauses grow */
	int64_t retry_at_ms;   /* boot time: no new intent before it */
	char error[LITELLM_MESSAGE_MAX];
	struct event *timer;
	struct pool *following;
};

struct pools {
	struct pool *first;
};

struct pools *pools_new(void)
{
	return xcalloc(1, sizeof(struct pools));
}

void pools_free(struct pools *pools)
{
	struct pool *p, *following;

	if (!pools)
		return;
	for (p = pools->first; p; p = following) {
		following = p->following;
		event_free(p->timer);
		free(p);
	}
	free(pools);
}

static struct pool *pool_find(const struct daemon *d, const char *profile)
{
	for (struct pool *p = d->pools->first; p; p = p->following)
		if (strcmp(p->name, profile) == 0)
			return p;
	return NULL;
}

static void pool_drive(struct pool *p);

static void pool_on_timer(int fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	pool_drive(userdata);
}

static struct pool *pool_get(struct daemon *d, const char *profile)
{
	struct pool *p = pool_find(d, profile);

	if (p)
		return p;
	p = xcalloc(1, sizeof(*p));
	p->d = d;
	(void)snprintf(p->name, sizeof(p->name), "%s", profile);
	TAILQ_INIT(&p->keys);
	p->timer = evtimer_new(d->base, pool_on_timer, p);
	if (!p->timer)
		abort();
	p->following = d->pools->first;
	d->pools->first = p;
	return p;
}

static void pool_drive_in(struct pool *p, int64_t ms)
{
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	(void)evtimer_add(p->timer,
			  &tv); /* fails only without memory, when the process ends anyway */
}

static void pool_join(struct pool *p, struct key *k)
{
	k->pooled.pool = p;
	TAILQ_INSERT_TAIL(&p->keys, k, pooled.of_pool);
}

void pool_leave(struct key *k)
{
	struct pool *p = k->pooled.pool;

	if (!p)
		return;
	TAILQ_REMOVE(&p->keys, k, pooled.of_pool);
	k->pooled.pool = NULL;
	pool_drive_in(p, 0);
}

void pool_settle(struct key *k)
{
	if (!key_row_is_pooled(&k->row) || (k->row.state != KEY_INTENT && k->row.state != KEY_LIVE))
		pool_leave(k);
}

/* --- what the profile wants --- */

static const struct profile *pool_profile(const struct pool *p)
{
	const struct profile *profile = config_profile(p->d->config, p->name);

	return profile && profile->mode == PROFILE_DEDICATED ? profile : NULL;
}

/* The body of its mint without its names. */
void pool_settings(const struct profile *p, char ret[KEY_SETTINGS_SIZE])
{
	const struct litellm_mint m = { .team_id = p->team_id ? p->team_id : p->team_alias,
					.models = p->models,
					.n_models = p->n_models,
					.limits = &p->key };
	char *text = litellm_mint_body(&m);
	char hash[SHA256_HEX_SIZE];

	if (!text)
		abort(); /* out of memory */
	crypt_sha256_hex(text, strlen(text), hash);
	json_text_free(text);
	(void)snprintf(ret, KEY_SETTINGS_SIZE, "%.16s", hash);
}

/* Not on its way out. */
static bool pool_keeps(const struct key *k)
{
	return !k->pooled.taken && !k->orphan && !k->dead && !k->retire_why;
}

static void pool_drop(struct key *k, const char *why)
{
	if (k->row.state == KEY_LIVE)
		key_retire(k, 0, why);
	else
		key_abandon(k, why);
}

/* Lets go what is too many or was made by other settings. How many still count. */
static int64_t pool_trim(struct pool *p, const struct profile *profile)
{
	int64_t wanted = profile ? MAX_OF(profile->pool, 0) : 0, kept = 0, n = 0;
	struct key_row now = { 0 };
	struct key *k, *next;

	if (profile)
		pool_settings(profile, now.settings);
	for (k = TAILQ_FIRST(&p->keys); k; k = next) {
		next = TAILQ_NEXT(k, pooled.of_pool);
		n++;
		if (!pool_keeps(k))
			continue;
		if (wanted > 0 && strcmp(k->row.settings, now.settings) != 0)
			pool_drop(k, "the profile has changed since it was made for the pool");
		else if (kept == wanted)
			pool_drop(k, "the pool is smaller now");
		else
			kept++;
	}
	return n;
}

static void pool_begun(void *userdata, int outcome)
{
	struct key *k = userdata;

	FAIL_POINT("mint.after_intent");
	k->storing = false;
	if (outcome == 0) {
		key_drive(k);
		return;
	}
	k->row.state = KEY_DELETED; /* was never stored; goes with its pin */
	if (k->pooled.pool)
		k->pooled.pool->retry_at_ms = clock_now().boot_ms + POOL_RETRY_MS;
	pool_leave(k);
}

static void pool_begin(struct pool *p, const struct profile *profile)
{
	struct key_row row = { .mode = PROFILE_DEDICATED, .state = KEY_INTENT, .uid = -1 };
	struct change *c;
	struct key *k;

	crypt_draw_id(row.id);
	memcpy(row.profile, p->name, sizeof(row.profile));
	(void)snprintf(row.alias, sizeof(row.alias), "%s-pool-%.*s", p->name, POOL_SHORT_ID,
		       row.id);
	row.created_at_ms = row.changed_at_ms = clock_now().wall_ms;
	row.source = p->d->keys_forbidden ? KEY_SERVER_CHOSEN : KEY_MINTED;
	pool_settings(profile, row.settings);
	k = key_add_intent(p->d, &row);
	pool_join(p, k);
	c = change_new(p->d->turn, pool_begun, k);
	change_key(c, k, KEY_SET_ALL, &k->row);
	change_key_secret(c, k->secret);
	k->storing = true;
	change_submit(c);
}

static int64_t pool_making(const struct pool *p)
{
	const struct key *k;
	int64_t n = 0;

	TAILQ_FOREACH (k, &p->keys, pooled.of_pool)
		n += k->row.state == KEY_INTENT;
	return n;
}

static void pool_drive(struct pool *p)
{
	const struct profile *profile = pool_profile(p);
	int64_t now = clock_now().boot_ms;
	int64_t n, making, at_once;

	if (p->d->stopping || !p->d->upstream)
		return;
	n = pool_trim(p, profile);
	if (!profile || n >= profile->pool)
		return;
	if (now < p->retry_at_ms || daemon_is_short(p->d)) {
		pool_drive_in(p, p->retry_at_ms > now ? p->retry_at_ms - now : POOL_RETRY_MS);
		return;
	}
	making = pool_making(p);
	at_once = p->failures == 0 && upstream_reachable(p->d->upstream, NULL) ? POOL_MINTS : 1;
	for (; n < profile->pool && making < at_once; n++, making++)
		pool_begin(p, profile);
}

void pools_configure(struct daemon *d)
{
	for (size_t i = 0; i < d->config->n_profiles; i++)
		if (d->config->profiles[i].pool > 0)
			(void)pool_get(d, d->config->profiles[i].name); /* the list has it */
	for (struct pool *p = d->pools->first; p; p = p->following) {
		p->retry_at_ms = 0; /* what failed may have been put right by a reload */
		p->failures = 0;
		p->error[0] = '\0';
		pool_drive(p);
	}
}

void pool_adopt(struct key *k)
{
	if (k->row.state != KEY_INTENT && k->row.state != KEY_LIVE)
		return;
	pool_join(pool_get(k->d, k->row.profile), k);
	if (k->row.state == KEY_INTENT)
		key_abandon(k, "it was made for a pool, and no caller waits for it");
}

/* --- handing out --- */

bool pool_gives(const struct key *k)
{
	return k->pooled.pool && k->row.state == KEY_LIVE && k->checked && pool_keeps(k) &&
	       key_remaining_ms(k, clock_now().wall_ms) > 0;
}

struct key *pool_pick(const struct acquire *a)
{
	struct pool *p = pool_find(a->d, a->profile);
	int64_t now = clock_now().wall_ms;
	int64_t most = a->min_valid_asked ? a->min_valid_ms - 1 : 0;
	struct key *k, *best = NULL;

	if (!p)
		return NULL;
	TAILQ_FOREACH (k, &p->keys, pooled.of_pool) {
		int64_t left = key_remaining_ms(k, now);

		if (!pool_gives(k) || left <= most)
			continue;
		most = left;
		best = k;
	}
	return best;
}

void pool_hand_out(struct key *k, const struct acquire *a, struct change *c)
{
	const struct profile *profile = config_profile(k->d->config, k->row.profile);
	struct key_row to = k->row;

	to.uid = request_peer(a->request)->uid;
	memcpy(to.request_id, a->request_id, sizeof(to.request_id));
	if (profile)
		acquire_alias(a, profile, to.alias);
	change_key(c, k, KEY_SET_OWNER | KEY_SET_ALIAS, &to);
	k->pooled.taken = true;
}

void pool_handed_out(struct key *k, bool committed)
{
	k->pooled.taken = false;
	if (!committed)
		return;
	key_want_rename(k);
	k->extend_wanted = true; /* it has had the pool's short life until now */
}

/* --- filling --- */

static void pool_live(void *userdata, int outcome)
{
	struct key *k = userdata;
	struct pool *p = k->pooled.pool;

	k->storing = false;
	if (outcome != 0) {
		key_retry(k); /* the mint is done: it only has to be written down */
		return;
	}
	key_drop_secret(k);
	k->orphan = false; /* given up meanwhile: as a live key it is retired */
	key_drive(k);
	if (!p)
		return;
	p->failures = 0;
	p->error[0] = '\0';
	pool_drive(p);
}

void pool_minted(struct key *k)
{
	struct change *c;
	struct key_row to = k->row;

	if (k->storing)
		return;
	c = change_new(k->d->turn, pool_live, k);
	to.state = KEY_LIVE;
	to.changed_at_ms = key_audit(c, k, "mint", "for the pool")->wall_ms;
	change_key(c, k,
		   KEY_SET_STATE | KEY_SET_EXPIRY | KEY_SET_TEAM | KEY_SET_IDENTITY |
			   KEY_SET_DELETE_AT,
		   &to);
	change_key_secret(c, k->row.source == KEY_SERVER_CHOSEN ? k->secret : NULL);
	k->storing = true;
	change_submit(c);
}

void pool_trouble(struct key *k, bool failed, const char *message)
{
	struct pool *p = k->pooled.pool;
	int64_t now = clock_now().boot_ms;

	if (!p)
		return;
	(void)snprintf(p->error, sizeof(p->error), "%s", message);
	if (!failed || now < p->retry_at_ms)
		return; /* the intent itself is tried again; several that fail together count once
			 */
	p->retry_at_ms =
		now + (p->d->config->timing.upstream_recheck_ms << MIN_OF(p->failures, 6U));
	p->failures++;
	pool_drive_in(p, p->retry_at_ms - now);
}

/* --- the sweep --- */

void pools_expect(struct daemon *d)
{
	struct key *k;

	for (struct pool *p = d->pools->first; p; p = p->following)
		TAILQ_FOREACH (k, &p->keys, pooled.of_pool)
			k->pooled.missed = k->row.state == KEY_LIVE;
}

void pools_doubt(struct daemon *d)
{
	struct key *k, *next;

	for (struct pool *p = d->pools->first; p; p = p->following)
		for (k = TAILQ_FIRST(&p->keys); k; k = next) {
			next = TAILQ_NEXT(k, pooled.of_pool);
			if (!k->pooled.missed || k->call || k->storing || !pool_keeps(k))
				continue;
			k->checked = false;
			key_drive(k);
		}
}

struct pool_state pool_state(const struct daemon *d, const char *profile)
{
	const struct pool *p = pool_find(d, profile);
	struct pool_state s = { .error = p ? p->error : "" };
	const struct key *k;

	if (!p)
		return s;
	TAILQ_FOREACH (k, &p->keys, pooled.of_pool) {
		s.making += k->row.state == KEY_INTENT;
		s.ready += k->row.state == KEY_LIVE && pool_keeps(k);
	}
	return s;
}
