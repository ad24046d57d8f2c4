/*
 * From an intent to a live key. The intent with its secret is on the disk before upstream hears of
 * it, and every repeat sends the same secret, so a crash or a lost answer at any point leaves
 * nothing that cannot be finished.
 */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/log.h"
#include "base/secret.h"
#include "daemon/daemon.h"
#include "daemon/fail.h"
#include "daemon/key_work.h"
#include "daemon/keys.h"
#include "daemon/names.h"
#include "daemon/shared.h"
#include "daemon/teams.h"
#include "daemon/turn.h"
#include "io/store.h"

static void mint_waiters_fail(struct key *k, enum proto_error code, int64_t retry_ms,
			      const char *message)
{
	if (k->shared)
		acquire_fail_all(&k->shared->waiters, code, retry_ms, message);
	acquire_fail_all(&k->waiters, code, retry_ms, message);
}

static void mint_dropped(void *userdata, int outcome)
{
	struct key *k = userdata;

	k->storing = false;
	if (outcome != 0)
		key_retry(k);
}

/* The intent never became a key: nothing of it is upstream. */
void key_mint_drop(struct key *k, const char *message)
{
	struct change *c = change_new(k->d->turn, mint_dropped, k);
	struct audit_row *a = change_audit(c, "mint", "refused", NULL);
	struct key_row to = k->row;

	to.state = KEY_DELETED;
	to.changed_at_ms = a->wall_ms;
	to.generation = 0; /* it never was one: the next intent takes the number */
	key_describe(k, a);
	(void)snprintf(a->detail, sizeof(a->detail), "%s", message);
	change_key(c, k, KEY_SET_STATE | KEY_SET_IDENTITY, &to);
	k->storing = true;
	change_submit(c);
}

void key_mint_failed(struct key *k, enum proto_error code, const char *message)
{
	struct shared *s = k->shared;

	log_warning("profile %s: no key could be made: %s", k->row.profile, message);
	key_abandon(k, message);
	mint_waiters_fail(k, code, -1, message);
	if (s)
		shared_failed(s, code, message);
	pool_trouble(k, true, message);
}

bool key_revoke_intent(struct key *k)
{
	struct shared *s = k->shared;

	if (k->row.state != KEY_INTENT || k->orphan || (k->storing && TAILQ_EMPTY(&k->waiters)))
		return false;
	if (s && s->next == k)
		s->next = NULL;
	k->shared = NULL;
	key_abandon(k, "revoked");
	acquire_fail_all(&k->waiters, PROTO_UPSTREAM_UNAVAILABLE, 100,
			 "the key was taken away meanwhile; ask again");
	if (s)
		shared_drive(s);
	return true;
}

/* Upstream cannot be asked now: the intent stays, and is tried again as long as somebody wants it.
 */
static void mint_later(struct key *k, const struct upstream_answer *a)
{
	bool rejected = a->litellm.kind == LITELLM_UNAUTHORIZED;
	const char *message = a->litellm.message;

	if (k->shared)
		shared_trouble(k->shared, rejected, message);
	pool_trouble(k, false, message);
	k->mint = MINT_PREPARE;
	if (rejected) /* waiting won't help: somebody must put it right */
		mint_waiters_fail(k, PROTO_UPSTREAM_UNAVAILABLE,
				  k->d->config->timing.upstream_recheck_ms, message);
	key_retry(k);
}

static bool mint_is_dropped(struct key *k)
{
	if (k->orphan)
		key_drive(k);
	return k->orphan;
}

static bool mint_is_ours(const struct key *k, const struct litellm_key *found)
{
	return strcmp(found->intent, k->row.id) == 0;
}

/*
 * Blocked under our own mark: the leader before was burning it, which no row says. It is burned to
 * the end, and who waits gets another.
 */
static void mint_begin_anew(struct key *k)
{
	struct shared *s = k->shared;

	if (s && s->next == k)
		s->next = NULL;
	k->shared = NULL;
	key_abandon(k, "it was being burned");
	acquire_restart_all(&k->waiters);
	if (s)
		shared_drive(s);
}

/* One that this leader began was blocked by somebody else, and so might be the next. */
static void mint_blocked(struct key *k)
{
	bool inherited = k->row.term != 0 && k->row.term != k->d->term; /* the store's; ours is 0 */

	if (inherited)
		mint_begin_anew(k);
	else
		key_mint_failed(k, PROTO_UPSTREAM_REFUSED,
				"LiteLLM calls the key blocked that it has just made");
}

/* Somebody still waits: lease and key become real together. Nobody: the fresh key goes at once. */
static void mint_resolve(void *userdata)
{
	struct key *k = userdata;

	if (k->row.state != KEY_INTENT || k->storing)
		return;
	acquire_grant_all(&k->waiters, k);
	if (!k->storing && TAILQ_EMPTY(&k->waiters))
		key_retire(k, 0, "nobody waited for it any more");
}

static void mint_done(struct key *k, const struct upstream_answer *a)
{
	k->row.expires_at_ms = a->litellm.key.expires_at_ms
				       ? a->litellm.key.expires_at_ms + a->clock_offset_ms
				       : 0;
	if (key_remaining_ms(k, clock_now().wall_ms) <= 0) {
		key_mint_failed(
			k, PROTO_UPSTREAM_REFUSED,
			"the fresh key has expired already: does upstream's clock agree with this one?");
		return;
	}
	k->mint = MINT_DONE;
	k->failures = 0;
	k->checked = true;
	k->moved = false;
	if (k->shared)
		shared_minted(k->shared, k);
	else if (k->pooled.pool)
		pool_minted(k);
	else
		turn_late(k->d->turn, mint_resolve, k);
}

static void mint_check(struct key *k);

static void mint_on_corrected(void *userdata, struct upstream_answer *a)
{
	struct key *k = userdata;

	k->call = NULL;
	if (a->litellm.kind != LITELLM_OK)
		log_warning(
			"profile %s: a key that upstream made too short could not be corrected: %s",
			k->row.profile, a->litellm.message);
	mint_check(k);
}

/*
 * LiteLLM 1.80 rounds the expiry of a fresh key to the wall clock ("30m" ends seconds to 30 minutes
 * away), while its /key/update counts from now: compare what it made with what was asked for, and
 * correct it once.
 */
static bool mint_correct(struct key *k, const struct upstream_answer *a)
{
	int64_t left = a->litellm.key.expires_at_ms + a->clock_offset_ms - clock_now().wall_ms;
	char text[DURATION_SIZE];
	int64_t life = 0;
	const char *duration = key_duration(k, text, &life);

	if (k->corrected || !duration || a->litellm.key.expires_at_ms == 0 || left >= life / 10 * 9)
		return false;
	k->corrected = true;
	key_call(k, LITELLM_UPDATE, litellm_update_body(k->row.hash, duration, NULL),
		 mint_on_corrected);
	return true;
}

static void mint_on_info(void *userdata, struct upstream_answer *a)
{
	struct key *k = userdata;

	k->call = NULL;
	FAIL_POINT("mint.after_info");
	if (mint_is_dropped(k))
		return;
	switch (a->litellm.kind) {
	case LITELLM_OK:
		if (!mint_is_ours(k, &a->litellm.key))
			key_mint_failed(k, PROTO_INTERNAL,
					"upstream holds another key in its place");
		else if (a->litellm.key.blocked)
			mint_blocked(k);
		else if (!mint_correct(k, a))
			mint_done(k, a);
		return;
	case LITELLM_GONE:
		/* The secret is not there, so what was refused as taken is the name. */
		if (k->name_taken)
			names_resolve(k);
		else
			mint_later(k, a);
		return;
	case LITELLM_REFUSED:
	case LITELLM_FORBIDS_KEY:
		key_mint_failed(k, PROTO_UPSTREAM_REFUSED, a->litellm.message);
		return;
	case LITELLM_EXISTS:
	case LITELLM_UNAUTHORIZED:
	case LITELLM_UNAVAILABLE:
		mint_later(k, a);
		return;
	}
}

static void mint_check(struct key *k)
{
	k->mint = MINT_CHECK;
	key_call(k, LITELLM_INFO, litellm_info_path(k->row.hash), mint_on_info);
}

/* Upstream chose the secret itself: take it over before anything else can go wrong. */
static void mint_take_chosen(struct key *k, struct upstream_answer *a)
{
	if (k->row.source != KEY_SERVER_CHOSEN || !a->litellm.chosen)
		return;
	secret_free(k->secret);
	k->secret = TAKE(a->litellm.chosen);
	crypt_key_hash(k->secret, k->row.hash);
}

/* The same intent goes on without a secret of ours: upstream will choose it. */
static void mint_let_upstream_choose(struct key *k)
{
	log_warning(
		"upstream forbids chosen keys (disable_custom_api_keys): it chooses them from now on; a mint "
		"whose answer is lost is cleaned up by the sweep");
	key_drop_secret(k);
	k->row.hash[0] = '\0';
	k->row.source = KEY_SERVER_CHOSEN;
	k->mint = MINT_PREPARE;
	key_drive(k);
}

/*
 * What an answer to the POST says of where the key may be. As long as some attempt has none, the
 * key must not be deleted: the attempt may yet be carried out, and would bring it back.
 */
static void mint_learn(struct key *k, const struct upstream_answer *a)
{
	bool refused = a->litellm.kind == LITELLM_REFUSED ||
		       a->litellm.kind == LITELLM_FORBIDS_KEY || a->litellm.kind == LITELLM_GONE;

	if (a->unanswered)
		key_expect_late(k);
	if (!a->unanswered && (refused || a->litellm.kind == LITELLM_UNAVAILABLE ||
			       a->litellm.kind == LITELLM_UNAUTHORIZED))
		k->sent = k->sent_before; /* this POST brought nothing */
}

static void mint_on_post(void *userdata, struct upstream_answer *a)
{
	struct key *k = userdata;

	k->call = NULL;
	FAIL_POINT("mint.after_post");
	mint_learn(k, a);
	if (mint_is_dropped(k))
		return;
	k->name_taken = a->litellm.kind == LITELLM_EXISTS;
	switch (a->litellm.kind) {
	case LITELLM_OK:
		mint_take_chosen(k, a);
		mint_check(k);
		return;
	case LITELLM_EXISTS:
		if (k->row.hash[0])
			mint_check(
				k); /* a repeat meets its own alias: only the key itself can tell */
		else
			names_resolve(k);
		return;
	case LITELLM_FORBIDS_KEY:
		k->d->keys_forbidden = true;
		if (k->row.source == KEY_MINTED && !k->sent)
			mint_let_upstream_choose(k);
		else
			key_mint_failed(k, PROTO_UPSTREAM_REFUSED, a->litellm.message);
		return;
	case LITELLM_REFUSED:
	case LITELLM_GONE:
		key_mint_failed(k, PROTO_UPSTREAM_REFUSED, a->litellm.message);
		return;
	case LITELLM_UNAUTHORIZED:
	case LITELLM_UNAVAILABLE:
		mint_later(k, a);
		return;
	}
}

static void mint_post(struct key *k)
{
	const struct profile *p = key_profile(k);
	char duration[DURATION_SIZE];
	int64_t life;
	struct litellm_mint m = {
		.key = k->row.source == KEY_MINTED ? k->secret : NULL,
		.alias = k->row.alias,
		.user_id = k->d->user_id,
		.team_id = k->row.team_id[0] ? k->row.team_id : NULL,
		.duration = key_duration(k, duration, &life),
		.install = store_install(k->d->store),
		.intent = k->row.id,
		.models = p->models,
		.n_models = p->n_models,
		.limits = &p->key,
	};

	k->mint = MINT_POST;
	k->sent_before = k->sent;
	k->sent = true;
	FAIL_POINT("mint.before_post");
	key_call(k, LITELLM_GENERATE, litellm_mint_body(&m), mint_on_post);
}

/* A dedicated intent without a waiter is kept for a while, for a caller that comes back; then it is
 * burned. */
static bool mint_abandoned(struct key *k)
{
	int64_t now = clock_now().boot_ms;
	int64_t keep = k->d->config->timing.takeover_ms;

	if (k->shared || k->pooled.pool || !TAILQ_EMPTY(&k->waiters)) {
		k->abandoned_at_ms = 0;
		return false;
	}
	if (k->abandoned_at_ms == 0)
		k->abandoned_at_ms = now;
	if (now - k->abandoned_at_ms < keep) {
		key_drive_in(k, k->abandoned_at_ms + keep - now);
		return true;
	}
	key_abandon(k, "nobody waited for it any more");
	return true;
}

static bool mint_team_ready(struct key *k, const struct profile *p)
{
	char message[LITELLM_MESSAGE_MAX] = "";
	struct upstream_answer a = { .litellm.kind = LITELLM_UNAVAILABLE };

	switch (teams_need(k->d, p, k->row.team_id, message)) {
	case TEAM_READY:
		return true;
	case TEAM_PENDING:
		return false;
	case TEAM_REFUSED:
		key_mint_failed(k, PROTO_UPSTREAM_REFUSED, message);
		return false;
	case TEAM_UNAUTHORIZED:
		a.litellm.kind = LITELLM_UNAUTHORIZED;
		/* fallthrough */
	case TEAM_UNAVAILABLE:
		(void)snprintf(a.litellm.message, sizeof(a.litellm.message), "%s", message);
		mint_later(k, &a);
		return false;
	}
	return false;
}

void key_mint(struct key *k)
{
	const struct profile *p = key_profile(k);

	if (k->mint == MINT_DONE) {
		if (k->shared)
			shared_minted(k->shared, k);
		else if (k->pooled.pool)
			pool_minted(k);
		else
			mint_resolve(k);
		return;
	}
	if (mint_abandoned(k))
		return;
	if (!p || p->mode != k->row.mode) {
		key_mint_failed(k, PROTO_UNKNOWN_PROFILE, "the profile is no longer configured");
		return;
	}
	if (k->shared && k->shared->current && k->shared->current->rename_wanted) {
		key_drive(k->shared->current); /* its name must be free first; it drives us on */
		return;
	}
	if (!mint_team_ready(k, p))
		return;
	if (k->row.source == KEY_MINTED && !key_need_secret(k)) {
		key_mint_failed(k, PROTO_INTERNAL, "the secret of the intent cannot be read");
		return;
	}
	mint_post(k);
}
