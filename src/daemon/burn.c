/*
 * Burning an intent that nobody wants. An abandoned request may still be on its way to upstream,
 * and deleting what is not there yet would let it through: so the place is occupied with the same
 * secret, blocked, renamed and checked, and deleted only long after every late request must have
 * come.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "daemon/daemon.h"
#include "daemon/fail.h"
#include "daemon/key_work.h"
#include "daemon/keys.h"
#include "daemon/turn.h"
#include "io/store.h"

static void burn_next(struct key *k, enum burn_step step)
{
	k->burn = step;
	key_burn(k);
}

static void burn_stored(void *userdata, int outcome)
{
	struct key *k = userdata;

	k->storing = false;
	if (outcome == 0)
		key_drop_secret(k);
	if (outcome != 0)
		key_retry(k);
	else
		key_drive(k);
}

static void burn_finish(struct key *k, enum key_state state, const char *detail)
{
	struct change *c = change_new(k->d->turn, burn_stored, k);
	struct audit_row *a = change_audit(c, "burn", "ok", NULL);
	struct key_row to = { .state = state,
			      .changed_at_ms = a->wall_ms,
			      .delete_at_ms = a->wall_ms + k->d->config->timing.burn_delete_ms };

	(void)snprintf(to.alias, sizeof(to.alias), "burned-%s", k->row.id);
	(void)snprintf(a->detail, sizeof(a->detail), "%s", detail);
	key_describe(k, a);
	change_key(c, k, KEY_SET_STATE | KEY_SET_ALIAS | KEY_SET_DELETE_AT, &to);
	key_hold_late(k);
	k->storing = true;
	change_submit(c);
}

static bool burn_must_wait(struct key *k, const struct upstream_answer *a)
{
	if (a->litellm.kind != LITELLM_UNAVAILABLE && a->litellm.kind != LITELLM_UNAUTHORIZED)
		return false;
	key_retry(k);
	return true;
}

/* What was done did not show: again, later each time, since upstream may take a while to see it
 * itself. */
static void burn_again(struct key *k, enum burn_step step)
{
	k->burn = step;
	key_retry(k);
}

static void burn_on_info(void *userdata, struct upstream_answer *a)
{
	struct key *k = userdata;

	k->call = NULL;
	if (burn_must_wait(k, a))
		return;
	if (a->litellm.kind == LITELLM_OK && a->litellm.key.blocked)
		burn_finish(k, KEY_BURNED,
			    "an intent that nobody waited for is occupied and blocked upstream");
	else
		burn_again(k, a->litellm.kind == LITELLM_OK ? BURN_BLOCK : BURN_POST);
}

static void burn_on_rename(void *userdata, struct upstream_answer *a)
{
	struct key *k = userdata;

	k->call = NULL;
	FAIL_POINT("burn.after_rename");
	if (burn_must_wait(k, a))
		return;
	burn_next(k, BURN_CHECK); /* the name is for people; whether it is blocked is what counts */
}

static void burn_on_block(void *userdata, struct upstream_answer *a)
{
	struct key *k = userdata;

	k->call = NULL;
	FAIL_POINT("burn.after_block");
	if (burn_must_wait(k, a))
		return;
	if (a->litellm.kind == LITELLM_OK)
		burn_next(k, BURN_RENAME);
	else if (k->d->keys_forbidden || k->burn_tries > 3)
		/* Upstream takes no such key, so no late request can bring it either; the sweep
		 * watches all the same. */
		burn_finish(k, KEY_BURNED, "upstream refuses to hold it at all");
	else
		burn_again(k, BURN_POST);
}

static void burn_on_post(void *userdata, struct upstream_answer *a)
{
	struct key *k = userdata;

	k->call = NULL;
	FAIL_POINT("burn.after_post");
	if (a->litellm.kind == LITELLM_FORBIDS_KEY)
		k->d->keys_forbidden = true;
	if (burn_must_wait(k, a))
		return;
	k->burn_tries++;
	burn_next(k, BURN_BLOCK); /* a POST whose key was there blocks nothing, though its answer
				     says so */
}

static void burn_post(struct key *k)
{
	char alias[ALIAS_MAX];
	struct litellm_mint m = {
		.key = k->secret,
		.alias = alias,
		.user_id = k->d->user_id,
		.install = store_install(k->d->store),
		.intent = k->row.id,
		.blocked = true,
	};

	if (k->burn_tries == 0)
		(void)snprintf(alias, sizeof(alias), "burned-%s", k->row.id);
	else
		(void)snprintf(alias, sizeof(alias), "burned-%s-%u", k->row.id, k->burn_tries);
	key_call(k, LITELLM_GENERATE, litellm_mint_body(&m), burn_on_post);
}

void key_abandon(struct key *k, const char *why)
{
	k->orphan = true; /* from now on nobody joins it */
	if (!k->sent && !k->storing) {
		key_mint_drop(k, why);
		return;
	}
	k->burn = BURN_POST;
	key_drive_in(k, 0);
}

void key_burn(struct key *k)
{
	char alias[ALIAS_MAX];

	if (!k->sent) {
		key_mint_drop(k, "nobody wants it any more");
		return;
	}
	if (k->row.source == KEY_SERVER_CHOSEN && k->row.hash[0]) {
		key_retire(k, 0, "nobody wants it any more");
		return;
	}
	if (k->row.source == KEY_SERVER_CHOSEN) {
		/* Its secret is unknown to us: what a late request brings, the sweep finds by our
		 * user_id. */
		burn_finish(k, KEY_DELETED,
			    "left to the sweep: upstream chose the key and its answer was lost");
		return;
	}
	if (!key_need_secret(k)) {
		key_retry(k);
		return;
	}
	(void)snprintf(alias, sizeof(alias), "burned-%s", k->row.id);
	switch (k->burn) {
	case BURN_POST:
		burn_post(k);
		return;
	case BURN_BLOCK:
		key_call(k, LITELLM_BLOCK, litellm_block_body(k->row.hash), burn_on_block);
		return;
	case BURN_RENAME:
		key_call(k, LITELLM_UPDATE, litellm_update_body(k->row.hash, NULL, alias),
			 burn_on_rename);
		return;
	case BURN_CHECK:
		key_call(k, LITELLM_INFO, litellm_info_path(k->row.hash), burn_on_info);
		return;
	}
}
