/*
 * The end of a key: it retires, stays while its grace lasts (unless nobody can be using it any
 * more) or a fixed lease holds it, and is then deleted upstream by its hash. LiteLLM never removes
 * anything itself.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "daemon/daemon.h"
#include "daemon/fail.h"
#include "daemon/key_work.h"
#include "daemon/keys.h"
#include "daemon/leases.h"
#include "daemon/revoke_wait.h"
#include "daemon/rotation.h"
#include "daemon/shared.h"
#include "daemon/turn.h"

static void retire_stored(void *userdata, int outcome)
{
	struct key *k = userdata;

	k->storing = false;
	if (outcome == 0)
		key_drive(k);
	else
		key_drive_in(k, 1000);
}

void key_retire(struct key *k, int64_t grace_ms, const char *why)
{
	unsigned set = KEY_SET_STATE | KEY_SET_DELETE_AT | KEY_SET_EXPIRY | KEY_SET_IDENTITY;
	struct change *c = change_new(k->d->turn, retire_stored, k);
	struct key_row to = { .state = KEY_RETIRING, .expires_at_ms = k->row.expires_at_ms };
	const struct audit_row *a;

	if (k->row.state == KEY_INTENT)
		(void)key_audit(c, k, "mint", NULL); /* it was made, if only to go */
	a = key_audit(c, k, "retire", why);
	to.changed_at_ms = a->wall_ms;
	to.delete_at_ms = a->wall_ms + grace_ms;
	k->retire_why = why;
	k->retire_grace_ms = grace_ms;
	if (k->dead) { /* another change of this turn may give it a grace */
		set |= KEY_SET_DELETE_SOONER;
		to.delete_at_ms = MAX_OF(to.delete_at_ms, k->late_until_ms);
	}
	memcpy(to.hash, k->row.hash, sizeof(to.hash));
	to.source = k->row.source;
	to.generation = k->row.generation;
	to.created_at_ms = k->row.created_at_ms;
	change_key(c, k, set, &to);
	k->storing = true;
	change_submit(c);
}

/* Its grace is over, for who leads after a restart too. */
static void retire_sooner(struct key *k)
{
	struct change *c = change_new(k->d->turn, retire_stored, k);
	struct key_row to = { .delete_at_ms = MAX_OF(clock_now().wall_ms, k->late_until_ms) };

	change_key(c, k, KEY_SET_DELETE_SOONER, &to);
	k->storing = true;
	change_submit(c);
}

void key_kill(struct key *k, const char *why)
{
	k->dead = true;
	acquire_fail_all(&k->waiters, PROTO_UPSTREAM_UNAVAILABLE, 100,
			 "the key was taken away meanwhile; ask again");
	if (k->shared && k->shared->current == k)
		shared_lost(k->shared);
	if (k->row.state == KEY_LIVE)
		key_retire(k, 0, why);
	else if (k->row.state == KEY_RETIRING && !k->storing)
		retire_sooner(k);
	else
		key_drive_in(k, 0);
}

/* Who waits for its name need not wait for a renaming any more. */
static void retire_free_name(struct key *k)
{
	struct shared *s = k->shared;

	k->rename_wanted = false;
	if (!s)
		return;
	if (s->next && s->next != k)
		key_drive(s->next);
	if (s->current && s->current != k)
		key_drive(s->current);
}

static void retire_deleted(void *userdata, int outcome)
{
	struct key *k = userdata;

	k->storing = false;
	if (outcome != 0)
		key_retry(k);
	else {
		acquire_fail_all(&k->waiters, PROTO_UNKNOWN_LEASE, -1,
				 "the key of this lease is gone; acquire a new one");
		key_drop_secret(k);
		retire_free_name(k);
	}
}

/* Fixed leases cannot take another key: with theirs they are over. Refreshable ones take the next
 * when they ask. */
static void retire_end_leases(struct key *k)
{
	struct lease *l, *next;

	for (l = leases_first(k->d->leases); l; l = next) {
		next = leases_next(l);
		if (l->key == k && !l->ending &&
		    (!l->row.refreshable || k->row.mode == PROFILE_DEDICATED))
			lease_end(l, LEASE_REVOKED, "revoke", NULL, NULL, NULL);
	}
}

/* Where deletions themselves fail, they are not what keeps the breaker open for all others. */
static int64_t retire_again_ms(const struct key *k, const struct upstream_answer *a)
{
	const struct timing *t = &k->d->config->timing;
	int64_t soon = MAX_OF(a->litellm.retry_after_ms, t->upstream_recheck_ms / 8);

	return a->held_up ? MIN_OF(soon, t->delete_retry_ms) : t->delete_retry_ms;
}

static void retire_on_delete(void *userdata, struct upstream_answer *a)
{
	struct key *k = userdata;
	struct change *c;
	struct audit_row *row;
	struct key_row to = { .state = KEY_DELETED };

	k->call = NULL;
	FAIL_POINT("delete.after_post");
	revoke_wait_told(k, a->litellm.kind == LITELLM_OK || a->litellm.kind == LITELLM_GONE);
	if (a->litellm.kind != LITELLM_OK && a->litellm.kind != LITELLM_GONE) {
		log_warning(
			"profile %s: a key could not be deleted upstream, trying again later: %s",
			k->row.profile, a->litellm.message);
		key_drive_in(k, retire_again_ms(k, a));
		return;
	}
	retire_end_leases(k);
	c = change_new(k->d->turn, retire_deleted, k);
	row = key_audit(c, k, "delete",
			a->litellm.kind == LITELLM_GONE ? "upstream did not have it any more"
							: NULL);
	to.changed_at_ms = row->wall_ms;
	change_key(c, k, KEY_SET_STATE, &to);
	k->storing = true;
	change_submit(c);
}

/* Nobody will be given it any more, and of those who were nobody is left. Of a foreign key nobody
 * knows who has it. */
static bool retire_is_left(const struct key *k)
{
	const struct profile *p = key_profile(k);

	return k->row.state == KEY_RETIRING && k->n_leases == 0 && k->row.source != KEY_IMPORTED &&
	       k->row.source != KEY_LEGACY && (!p || p->mode != k->row.mode);
}

/* How long a key must still stay, by its own rules; 0: it may go. */
static int64_t retire_own_wait_ms(const struct key *k, struct instant now)
{
	int64_t fixed_until = k->changed_boot_ms + k->d->config->timing.fixed_max_ms;

	if (k->dead || retire_is_left(k) || rotation_is_over(k))
		return MAX_OF(k->late_until_ms - now.wall_ms, 0);
	if (now.boot_ms < k->delete_boot_ms)
		return k->delete_boot_ms - now.boot_ms;
	if (k->row.state == KEY_RETIRING && k->n_fixed > 0 && now.boot_ms < fixed_until)
		return fixed_until - now.boot_ms;
	return 0;
}

/* A late request may still bring it back, whatever the wall clock was set to meanwhile. */
static int64_t retire_wait_ms(const struct key *k)
{
	struct instant now = clock_now();
	int64_t wait = retire_own_wait_ms(k, now);

	return MAX_OF(wait, MAX_OF(k->late_boot_ms - now.boot_ms, 0));
}

static void retire_on_block(void *userdata, struct upstream_answer *a)
{
	struct key *k = userdata;

	k->call = NULL;
	k->blocked = a->litellm.kind == LITELLM_OK || a->litellm.kind == LITELLM_GONE;
	revoke_wait_told(k, k->blocked);
	if (!k->blocked) {
		key_retry(k);
		return;
	}
	retire_end_leases(k); /* their key works no more, though it goes later */
	key_drive(k);
}

/* Nobody may use it any more, yet it cannot be deleted: a late POST would make it anew. */
static bool retire_must_block(const struct key *k)
{
	if (k->row.state != KEY_RETIRING || k->blocked)
		return false;
	if (k->dead)
		return true;
	return k->row.source != KEY_LEGACY && k->row.mode == PROFILE_DEDICATED && k->n_leases == 0;
}

bool key_goes_first(const struct key *k)
{
	if (k->row.state != KEY_RETIRING && k->row.state != KEY_BURNED)
		return false;
	return retire_wait_ms(k) == 0 || retire_must_block(k);
}

void key_delete_if_due(struct key *k)
{
	int64_t wait = retire_wait_ms(k);

	if (wait == 0) {
		FAIL_POINT("delete.before_post");
		key_call(k, LITELLM_DELETE, litellm_delete_body(k->row.hash), retire_on_delete);
		return;
	}
	if (retire_must_block(k)) {
		key_call(k, LITELLM_BLOCK, litellm_block_body(k->row.hash), retire_on_block);
		return;
	}
	key_drive_in(k, wait);
	if (k->row.state == KEY_RETIRING && k->n_leases > 0)
		key_extend(k); /* held: it is kept alive like any other */
}
