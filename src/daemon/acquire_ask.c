/*
 * Where the key of an acquire comes from: the shared profile's current one, a fresh intent, the
 * lease's own, or a provider's. What happens once it is there is in acquire.c.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/secret.h"
#include "core/alias.h"
#include "daemon/acquire.h"
#include "daemon/acquire_reply.h"
#include "daemon/daemon.h"
#include "daemon/fail.h"
#include "daemon/key_work.h"
#include "daemon/keys.h"
#include "daemon/leases.h"
#include "daemon/request.h"
#include "daemon/shared.h"
#include "daemon/turn.h"

static void acquire_intent_stored(void *userdata, int outcome)
{
	struct key *k = userdata;
	char why[TURN_WHY_SIZE];

	FAIL_POINT("mint.after_intent");
	k->storing = false;
	if (outcome != 0) {
		k->row.state = KEY_DELETED; /* was never stored; goes with its pin */
		acquire_fail_all(&k->waiters, PROTO_AUDIT_UNAVAILABLE, 1000,
				 turn_why(outcome, "the mint", why));
		return;
	}
	key_drive(k);
}

void acquire_alias(const struct acquire *a, const struct profile *p, char ret[ALIAS_MAX])
{
	const struct peer *peer = request_peer(a->request);
	char user[64];
	const struct alias_values values = { .pid = peer->pid,
					     .uid = peer->uid,
					     .user = acquire_user_name(peer->uid, user,
								       sizeof(user)),
					     .unit = peer->unit,
					     .host = a->d->host,
					     .profile = a->profile };

	alias_expand(p->alias, &values, ret, ALIAS_MAX);
}

static void acquire_intent_row(struct acquire *a, const struct profile *p, struct key_row *row)
{
	const struct peer *peer = request_peer(a->request);

	*row = (struct key_row){ .mode = PROFILE_DEDICATED, .state = KEY_INTENT, .uid = peer->uid };
	crypt_draw_id(row->id);
	memcpy(row->profile, a->profile, sizeof(row->profile));
	memcpy(row->request_id, a->request_id, sizeof(row->request_id));
	acquire_alias(a, p, row->alias);
	row->created_at_ms = row->changed_at_ms = clock_now().wall_ms;
	row->source = a->d->keys_forbidden ? KEY_SERVER_CHOSEN : KEY_MINTED;
}

/* An intent without a waiter is for whoever of its uid comes back with its request_id: that process
 * may have restarted. */
static bool acquire_is_same_process(const struct peer *p, const struct acquire *waiting)
{
	const struct peer *w = waiting ? request_peer(waiting->request) : p;

	return p->pid == w->pid && p->start_time == w->start_time;
}

struct key *acquire_intent(const struct daemon *d, const struct request *r, const char *profile,
			   const char *request_id)
{
	const struct peer *p = request_peer(r);
	struct key *k =
		request_id[0] ? keys_find_intent(d->keys, p->uid, profile, request_id) : NULL;

	return k && acquire_is_same_process(p, TAILQ_FIRST(&k->waiters)) ? k : NULL;
}

static void acquire_dedicated(struct acquire *a, const struct profile *p)
{
	struct daemon *d = a->d;
	struct key *k = acquire_intent(d, a->request, a->profile, a->request_id);
	struct key_row row;
	struct change *c;

	if (k) {
		acquire_wait(a, &k->waiters);
		key_drive(k);
		return;
	}
	k = pool_pick(a);
	if (k) {
		acquire_grant(a, k);
		return;
	}
	acquire_intent_row(a, p, &row);
	k = key_add_intent(d, &row);
	acquire_wait(a, &k->waiters);
	c = change_new(d->turn, acquire_intent_stored, k);
	change_key(c, k, KEY_SET_ALL, &k->row);
	change_key_secret(c, k->secret);
	k->storing = true;
	change_submit(c);
}

static void acquire_shared(struct acquire *a)
{
	struct shared *s = shared_find(a->d, a->profile);
	bool ready = s && s->current && (s->current->checked || s->current->trusted);

	if (!s) {
		acquire_fail(a, PROTO_INTERNAL, -1, "the profile is not served yet");
		return;
	}
	/* Refused for good a moment ago: said at once, not after the caller's patience has run out.
	 */
	if (!shared_wanted(s)) {
		acquire_fail(a, s->error_code, s->retry_at_ms - clock_now().boot_ms, s->error);
		return;
	}
	if (ready && acquire_try(a, s->current))
		return; /* the usual case: it need not wait for anything */
	acquire_wait(a, &s->waiters);
	if (ready)
		acquire_grant_all(&s->waiters, s->current);
	else
		shared_drive(s);
}

/* A lease's own key: fixed leases keep it, refreshable ones move with their profile. */
static void acquire_again(struct acquire *a, const struct profile *p)
{
	struct acquire_list own = TAILQ_HEAD_INITIALIZER(own);
	struct lease *l = a->lease;

	if (!l->key)
		acquire_grant(a, NULL);
	else if (l->row.refreshable && l->key->row.mode == PROFILE_SHARED &&
		 p->mode == PROFILE_SHARED)
		acquire_shared(a);
	else if (l->key->dead || l->key->row.state == KEY_DELETED ||
		 (l->key->moved && l->key->row.state == KEY_RETIRING))
		acquire_fail(a, PROTO_UNKNOWN_LEASE, -1,
			     "the key of this lease is gone; acquire a new one");
	else if (l->key->moved) {
		acquire_wait(a, &l->key->waiters);
		acquire_grant_all(&l->key->waiters, l->key);
	} else {
		acquire_wait(a, &own);
		acquire_grant_all(&own, l->key);
	}
}

void acquire_start(struct acquire *a, const struct profile *p)
{
	if (a->reread) {
		lease_pin(a->lease); /* until acquire_free() */
		acquire_again(a, p);
		return;
	}
	switch (p->mode) {
	case PROFILE_SHARED:
		acquire_shared(a);
		return;
	case PROFILE_DEDICATED:
		acquire_dedicated(a, p);
		return;
	case PROFILE_STATIC:
		acquire_grant(a, NULL);
		return;
	}
}
