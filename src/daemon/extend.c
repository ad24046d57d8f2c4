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

/*
 * A Date that some proxy has kept, or a clock of LiteLLM's that was set for a moment, ends no key:
 * its end must be over by our clock too, or by what was known of it before.
 */
static bool extend_is_over(const struct key *k, int64_t by_their_date_ms, int64_t as_written_ms)
{
	int64_t known = k->row.expires_at_ms;
	int64_t now = extend_now();

	return by_their_date_ms <= now && (as_written_ms <= now || (known && known <= now));
}

const char *key_death(const struct key *k, const struct upstream_answer *a,
		      int64_t *ret_expires_at_ms)
{
	const struct litellm_key *found = &a->litellm.key;
	int64_t end;

	if (a->litellm.kind == LITELLM_GONE)
		return "upstream does not know it";
	if (found->blocked)
		return "blocked upstream";
	end = found->expires_at_ms ? found->expires_at_ms + a->clock_offset_ms : 0;
	if (end && extend_is_over(k, end, found->expires_at_ms))
		return "expired";
	*ret_expires_at_ms = end && end <= extend_now() ? -1 : end;
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

static void extend_settle(struct key *k, const char *message)
{
	if (k->extend_wanted)
		acquire_settle_all(&k->waiters, k, k->extend_error, message);
	k->extend_wanted = false;
}

/* It was not prolonged: what is still good is served, and the rest is told so. */
static void extend_failed(struct key *k, enum proto_error code, const char *message)
{
	k->extend_error = code;
	k->extend_after_ms = clock_now().boot_ms + k->d->config->timing.upstream_recheck_ms / 8;
	extend_settle(k, message);
	log_warning("profile %s: a key could not be prolonged: %s", k->row.profile, message);
	key_retry(k);
}

/*
 * Neither who asks for more and more nor an upstream that gives less than it was asked for makes
 * this a loop. What is due again at once is so ever later, yet before its end.
 */
static void extend_pace(struct key *k, int64_t left_ms)
{
	const struct timing *t = &k->d->config->timing;
	int64_t pause = t->upstream_recheck_ms;
	char text[DURATION_SIZE];
	int64_t life;

	(void)extend_duration(k, text, &life);
	if (left_ms > MAX_OF(life / 3, t->extend_floor_ms)) {
		k->failures = 0;
	} else {
		pause = MIN_OF(pause << MIN_OF(k->failures, 10U), left_ms / 2);
		pause = MAX_OF(pause, t->upstream_recheck_ms / 8);
		k->failures++;
	}
	k->extend_error = PROTO_UPSTREAM_REFUSED;
	k->extend_after_ms = clock_now().boot_ms + pause;
}

int64_t key_reliable_ms(const struct key *k)
{
	char text[DURATION_SIZE];
	int64_t life;

	(void)extend_duration(k, text, &life);
	return life - MIN_OF(life / 10, k->d->config->timing.extend_loss_ms);
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
		death = key_death(k, a, &expires_at_ms);
	else {
		extend_failed(k, PROTO_UPSTREAM_UNAVAILABLE, a->litellm.message);
		return;
	}
	if (death) {
		key_died(k, death);
	} else if (expires_at_ms != 0 && expires_at_ms <= k->row.expires_at_ms) {
		extend_failed(k, PROTO_UPSTREAM_REFUSED,
			      "upstream accepted it but the key ends when it did before");
	} else {
		extend_pace(k, expires_at_ms ? expires_at_ms - extend_now() : INT64_MAX);
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
		extend_failed(k,
			      a->litellm.kind == LITELLM_REFUSED ? PROTO_UPSTREAM_REFUSED
								 : PROTO_UPSTREAM_UNAVAILABLE,
			      a->litellm.message);
}

/* Due or wanted, but it was tried a moment ago. */
static void extend_later(struct key *k, int64_t boot_ms)
{
	extend_settle(k, "LiteLLM was asked a moment ago to prolong the key, which does not live "
			 "as long as min_valid_ms asks for");
	key_drive_in(k, k->extend_after_ms - boot_ms);
	if (k->recheck_at_ms)
		key_drive_in(k, k->recheck_at_ms - boot_ms);
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
		if (boot < k->extend_after_ms) {
			extend_later(k, boot);
			return;
		}
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
	int64_t expires_at_ms = -1;
	const char *death = NULL;

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
	if (told)
		death = key_death(k, a, &expires_at_ms);
	if (!death && expires_at_ms < 0) {
		/* Proves nothing: the key is kept and handed out, and asked about again. */
		k->recheck_at_ms = clock_now().boot_ms + k->d->config->timing.upstream_recheck_ms;
		extend_serve_profile(k); /* before a rename that upstream may hold up as well */
		key_drive(k);
		return;
	}
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
