/*
 * Keeping keys alive: a key near its end is prolonged with the same secret, never replaced, and
 * /key/info has the last word on when it ends. Also the check of keys found in the store.
 */
#include <stdio.h>

#include "base/log.h"
#include "daemon/daemon.h"
#include "daemon/fail.h"
#include "daemon/key_work.h"
#include "daemon/keys.h"
#include "daemon/shared.h"
#include "daemon/teams.h"
#include "daemon/turn.h"

/* An imported key may have an end though its profile names no duration: then it lives on by this
 * much each time. */
#define EXTEND_DEFAULT "30d"
#define EXTEND_DEFAULT_MS (INT64_C(30) * 24 * 3600 * 1000)

const char *key_duration(const struct key *k, char buf[DURATION_SIZE], int64_t *ret_ms)
{
	const struct profile *p = key_profile(k);
	int64_t pool_ms = k->d->config->timing.pool_life_ms;

	if (!p || !p->duration)
		return NULL;
	*ret_ms = p->duration_ms;
	if (!key_row_is_pooled(&k->row) || p->duration_ms <= pool_ms)
		return p->duration;
	*ret_ms = pool_ms;
	(void)snprintf(buf, DURATION_SIZE, "%llds", (long long)pool_ms / 1000);
	return buf;
}

static const char *extend_duration(const struct key *k, char buf[DURATION_SIZE], int64_t *ret_ms)
{
	const char *text = key_duration(k, buf, ret_ms);

	if (!text) {
		text = EXTEND_DEFAULT;
		*ret_ms = EXTEND_DEFAULT_MS;
	}
	return text;
}

static int64_t extend_now(void)
{
	return clock_now().wall_ms;
}

/* Wall time at which it is to be prolonged; INT64_MAX: never. */
static int64_t extend_due_at(const struct key *k)
{
	char text[DURATION_SIZE];
	int64_t life;

	if (k->row.expires_at_ms == 0 || k->dead ||
	    (k->row.state == KEY_RETIRING && k->n_leases == 0))
		return INT64_MAX;
	(void)extend_duration(k, text, &life);
	return k->row.expires_at_ms - MAX_OF(life / 3, k->d->config->timing.extend_floor_ms);
}

void key_died(struct key *k, const char *why)
{
	log_warning("profile %s: upstream no longer honours a key (%s)", k->row.profile, why);
	k->dead = true;
	if (key_profile(k))
		teams_doubt(k->d, key_profile(k));
	if (k->shared && k->shared->current == k)
		shared_mourn(k->shared);
	acquire_fail_all(&k->waiters, PROTO_UPSTREAM_UNAVAILABLE, 1000,
			 "the key has died upstream; ask again");
	key_retire(k, 0, why);
}

const char *key_death(const struct upstream_answer *a, int64_t *ret_expires_at_ms)
{
	const struct litellm_key *found = &a->litellm.key;

	if (a->litellm.kind == LITELLM_GONE)
		return "upstream does not know it";
	if (found->blocked)
		return "blocked upstream";
	*ret_expires_at_ms = found->expires_at_ms ? found->expires_at_ms + a->clock_offset_ms : 0;
	if (*ret_expires_at_ms && *ret_expires_at_ms <= extend_now())
		return "expired";
	return NULL;
}

static void extend_serve(struct key *k)
{
	struct acquire_list *waiters =
		k->shared && k->shared->current == k ? &k->shared->waiters : NULL;

	k->extend_wanted = false;
	acquire_grant_all(&k->waiters, k);
	if (waiters)
		acquire_grant_all(waiters, k);
}

/* Who waited for the profile's key to be checked has it now, whatever else is to be done with it.
 */
static void extend_serve_profile(struct key *k)
{
	if (k->shared && k->shared->current == k)
		acquire_grant_all(&k->shared->waiters, k);
}

static void extend_stored(void *userdata, int outcome)
{
	struct key *k = userdata;
	char why[TURN_WHY_SIZE];

	k->storing = false;
	if (outcome != 0) {
		acquire_fail_all(&k->waiters, PROTO_AUDIT_UNAVAILABLE, 1000,
				 turn_why(outcome, "the key's new end", why));
		key_retry(k);
		return;
	}
	extend_serve(k);
	key_drive(k);
}

static void extend_store(struct key *k, int64_t expires_at_ms, const char *event)
{
	struct change *c = change_new(k->d->turn, extend_stored, k);
	struct key_row to = { .expires_at_ms = expires_at_ms };

	if (event)
		(void)key_audit(c, k, event, NULL);
	change_key(c, k, KEY_SET_EXPIRY, &to);
	k->storing = true;
	change_submit(c);
}

/* Upstream cannot be asked: what is still good is served, and the rest is told to come back. */
static void extend_failed(struct key *k, const char *message)
{
	if (k->extend_wanted)
		acquire_settle_all(&k->waiters, k, message);
	k->extend_wanted = false;
	log_warning("profile %s: a key could not be prolonged: %s", k->row.profile, message);
	key_retry(k);
}

/* Revoked or found dead while the call was under way: it goes its way to the end. */
static bool extend_is_pointless(struct key *k)
{
	if (k->dead)
		key_drive(k);
	return k->dead;
}

static void extend_on_info(void *userdata, struct upstream_answer *a)
{
	struct key *k = userdata;
	int64_t expires_at_ms = 0;
	const char *death = NULL;

	k->call = NULL;
	if (extend_is_pointless(k))
		return;
	if (a->litellm.kind == LITELLM_OK || a->litellm.kind == LITELLM_GONE)
		death = key_death(a, &expires_at_ms);
	else {
		extend_failed(k, a->litellm.message);
		return;
	}
	if (death) {
		key_died(k, death);
	} else if (expires_at_ms != 0 && expires_at_ms <= k->row.expires_at_ms) {
		extend_failed(k, "upstream accepted it but the key ends when it did before");
	} else {
		k->failures = 0;
		extend_store(k, expires_at_ms, "extend");
	}
}

static void extend_on_update(void *userdata, struct upstream_answer *a)
{
	struct key *k = userdata;

	k->call = NULL;
	FAIL_POINT("extend.after_update");
	if (extend_is_pointless(k))
		return;
	if (a->litellm.kind == LITELLM_OK || a->litellm.kind == LITELLM_GONE)
		key_call(k, LITELLM_INFO, litellm_info_path(k->row.hash), extend_on_info);
	else
		extend_failed(k, a->litellm.message);
}

void key_extend(struct key *k)
{
	int64_t due = extend_due_at(k);
	int64_t now = extend_now();
	int64_t boot = clock_now().boot_ms;
	char text[DURATION_SIZE];
	int64_t life;

	if (k->recheck_at_ms && boot >= k->recheck_at_ms) {
		key_check(k);
		return;
	}
	if (due != INT64_MAX && (k->extend_wanted || now >= due)) {
		const char *duration = extend_duration(k, text, &life);

		key_call(k, LITELLM_UPDATE, litellm_update_body(k->row.hash, duration, NULL),
			 extend_on_update);
		return;
	}
	extend_serve(k);
	if (due != INT64_MAX)
		key_drive_in(k, due - now);
	if (k->recheck_at_ms && (due == INT64_MAX || k->recheck_at_ms - boot < due - now))
		key_drive_in(k, k->recheck_at_ms - boot);
}

static void extend_on_check(void *userdata, struct upstream_answer *a)
{
	struct key *k = userdata;
	int64_t expires_at_ms = 0;
	const char *death;

	bool told = a->litellm.kind == LITELLM_OK || a->litellm.kind == LITELLM_GONE;

	k->call = NULL;
	k->moved = k->moved && !told;
	k->checked = !k->moved;
	k->recheck_at_ms = 0;
	if (extend_is_pointless(k))
		return;
	if (k->moved) {
		key_retry(k); /* it may be another LiteLLM's: nobody is served until then */
		return;
	}
	if (!told) {
		/* Proves nothing: the key is kept and handed out, and asked about again. */
		k->recheck_at_ms = clock_now().boot_ms + k->d->config->timing.upstream_recheck_ms;
		extend_serve_profile(k); /* before a rename that upstream may hold up as well */
		key_drive(k);
		return;
	}
	death = key_death(a, &expires_at_ms);
	if (death)
		key_died(k, death);
	else if (expires_at_ms != k->row.expires_at_ms)
		extend_store(k, expires_at_ms, NULL);
	else {
		extend_serve_profile(k);
		key_drive(k);
	}
}

void key_check(struct key *k)
{
	k->call_deadline_ms =
		clock_now().boot_ms + 1; /* one attempt: callers may be waiting for this */
	key_call(k, LITELLM_INFO, litellm_info_path(k->row.hash), extend_on_check);
}
