/* `rotate` and `revoke`: an administrator makes a new key, or takes keys away. */
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "daemon/daemon.h"
#include "daemon/key_work.h"
#include "daemon/keys.h"
#include "daemon/leases.h"
#include "daemon/op.h"
#include "daemon/op_map.h"
#include "daemon/op_retiring.h"
#include "daemon/revoke_wait.h"
#include "daemon/shared.h"
#include "daemon/turn.h"
#include "daemon/upstream.h"

struct op_rotate_params {
	const char *profile;
	int64_t timeout_ms;
	bool now;
};

static const struct op_param op_rotate_params[] = {
	{ "profile", OP_TEXT, true, offsetof(struct op_rotate_params, profile), 1,
	  PROFILE_NAME_MAX - 1 },
	{ "timeout_ms", OP_INT, false, offsetof(struct op_rotate_params, timeout_ms), 1, 600000 },
	{ "now", OP_BOOL, false, offsetof(struct op_rotate_params, now), 0, 0 },
};

static void op_rotate_reply(struct request *r, const struct key *k, const struct key *old)
{
	struct op_map m = { 0 }, retiring = { 0 };
	char hash[9];

	op_short_hash(k->row.hash, hash);
	op_map_text(&m, "profile", k->row.profile);
	op_map_int(&m, "generation", (int64_t)k->row.generation);
	op_map_text(&m, "alias", k->row.alias);
	op_map_text(&m, "key_hash", hash);
	if (old) {
		op_map_int(&retiring, "generation", (int64_t)old->row.generation);
		op_map_text(&retiring, "alias", old->row.alias);
		op_map_int(&retiring, "leases", old->n_leases);
		op_map_int(&retiring, "fixed", old->n_fixed);
		op_map_map(&m, "retiring", &retiring);
	}
	op_retiring_sum(k->shared, &m);
	request_send(r, op_map_end(&m, request_reply(r)));
}

/* A rotation that was asked for, while that is being written down and then until it is done. Each
 * who asked waits as long as it said. */
struct op_rotating {
	struct shared *s;
	struct request *r;
	struct event *timer; /* NULL: not yet on s->rotate_waiters */
	int64_t timeout_ms;
	bool now;
};

/* Its request is the caller's, to be ended. */
static struct request *op_rotate_leave(struct op_rotating *o)
{
	struct request *r = o->r;

	TAILQ_REMOVE(&o->s->rotate_waiters, r, of_waiters);
	r->gone = NULL;
	event_free(o->timer);
	free(o);
	return r;
}

/* The admin has gone; the rotation goes on. */
static void op_rotate_gone(struct request *r)
{
	request_free(op_rotate_leave(r->waiting_for));
}

static void op_rotate_on_late(int fd, short what, void *userdata)
{
	struct op_rotating *o = userdata;
	const struct shared *s = o->s;

	(void)fd;
	(void)what;
	request_fail(op_rotate_leave(o), PROTO_UPSTREAM_UNAVAILABLE,
		     s->d->config->timing.upstream_recheck_ms,
		     "not done yet%s%s; it goes on by itself, the old key stays until then",
		     s->error[0] ? ": " : "", s->error);
}

static void op_rotate_wait(struct op_rotating *o)
{
	struct timeval tv = { .tv_sec = o->timeout_ms / 1000,
			      .tv_usec = o->timeout_ms % 1000 * 1000 };

	o->timer = evtimer_new(o->s->d->base, op_rotate_on_late, o);
	if (!o->timer)
		abort();
	(void)evtimer_add(o->timer,
			  &tv); /* fails only without memory, when the process ends anyway */
	o->r->gone = op_rotate_gone;
	o->r->waiting_for = o;
	TAILQ_INSERT_TAIL(&o->s->rotate_waiters, o->r, of_waiters);
}

void op_rotate_reply_all(struct shared *s, const struct key *k, const struct key *old)
{
	struct request *r;

	while ((r = TAILQ_FIRST(&s->rotate_waiters)))
		op_rotate_reply(op_rotate_leave(r->waiting_for), k, old);
}

void op_rotate_fail_all(struct shared *s, enum proto_error code, int64_t retry_after_ms,
			const char *message)
{
	struct request *r;

	while ((r = TAILQ_FIRST(&s->rotate_waiters)))
		request_fail(op_rotate_leave(r->waiting_for), code, retry_after_ms, "%s", message);
}

static void op_rotate_noted(void *userdata, int outcome)
{
	struct op_rotating *o = userdata;
	struct shared *s = o->s;
	char why[TURN_WHY_SIZE];

	s->rotate_now |= outcome == 0 && o->now;
	if (outcome == 0 && request_alive(o->r)) {
		op_rotate_wait(o);
	} else {
		if (outcome == 0)
			request_free(o->r);
		else
			request_fail(o->r, PROTO_AUDIT_UNAVAILABLE, 1000, "%s",
				     turn_why(outcome, "the rotation", why));
		free(o);
	}
	if (outcome == 0)
		shared_rotate(s);
}

/* Who asked for it is on record before it begins; its end is another row. */
static void op_rotate_note(struct daemon *d, struct request *r, struct shared *s,
			   const struct op_rotate_params *p)
{
	struct op_rotating *o = xcalloc(1, sizeof(*o));
	struct change *c = change_new(d->turn, op_rotate_noted, o);
	struct audit_row *a = change_audit(c, "rotate", "asked", request_peer(r));

	*o = (struct op_rotating){ .s = s, .r = r, .timeout_ms = p->timeout_ms, .now = p->now };
	(void)snprintf(a->profile, sizeof(a->profile), "%s", s->name);
	(void)snprintf(a->detail, sizeof(a->detail), "%s", p->now ? "at once" : "");
	if (p->now && s->next) /* for who leads next */
		change_key(c, s->next, KEY_SET_AT_ONCE, &(struct key_row){ .at_once = true });
	change_submit(c);
}

void op_rotate(struct daemon *d, struct request *r)
{
	struct op_rotate_params p = { .timeout_ms = d->config->timing.acquire_wait_ms };
	const struct profile *profile;
	struct shared *s;

	if (!op_read(r, op_rotate_params, ARRAY_SIZE(op_rotate_params), &p))
		return;
	profile = config_profile(d->config, p.profile);
	s = profile && profile->mode == PROFILE_SHARED ? shared_find(d, p.profile) : NULL;
	if (!profile) {
		op_no_profile(r, p.profile);
	} else if (!s) {
		request_fail(
			r, PROTO_INVALID_REQUEST, -1,
			"profile %s is %s: only a shared profile has a key to rotate; `keybroker revoke` takes keys away",
			p.profile, profile_mode_name(profile->mode));
	} else {
		op_rotate_note(d, r, s, &p);
	}
}

/* --- revoke --- */

struct op_revoke_params {
	const char *lease, *profile, *key_hash;
	int64_t uid;
};

static const struct op_param op_revoke_params[] = {
	{ "lease", OP_TEXT, false, offsetof(struct op_revoke_params, lease), 1, ID_SIZE - 1 },
	{ "profile", OP_TEXT, false, offsetof(struct op_revoke_params, profile), 1,
	  PROFILE_NAME_MAX - 1 },
	{ "key_hash", OP_TEXT, false, offsetof(struct op_revoke_params, key_hash), 8, 64 },
	{ "uid", OP_INT, false, offsetof(struct op_revoke_params, uid), 0, UINT32_MAX },
};

static bool op_revoke_wants_lease(const struct op_revoke_params *p, const struct lease *l)
{
	if (p->lease)
		return strcmp(l->row.id, p->lease) == 0;
	if (p->profile)
		return strcmp(l->row.profile, p->profile) == 0;
	if (p->key_hash)
		return l->key && strncmp(l->key->row.hash, p->key_hash, strlen(p->key_hash)) == 0;
	return l->row.uid == (uid_t)p->uid;
}

/* Keys named by profile or hash go themselves; a dedicated key also goes with its lease. */
static bool op_revoke_wants_key(const struct op_revoke_params *p, const struct key *k)
{
	if (!key_is_out(k))
		return false;
	if (k->row.source == KEY_LEGACY && !p->key_hash)
		return false; /* not of this broker's making: only by its own name */
	return (p->profile && strcmp(k->row.profile, p->profile) == 0) ||
	       (p->key_hash && strncmp(k->row.hash, p->key_hash, strlen(p->key_hash)) == 0);
}

/* Of keys that are being made: one that is named, and those of callers. A shared profile's replaces
 * the one that is taken away. */
static bool op_revoke_wants_intent(const struct op_revoke_params *p, const struct key *k)
{
	if (p->key_hash)
		return k->row.hash[0] &&
		       strncmp(k->row.hash, p->key_hash, strlen(p->key_hash)) == 0;
	if (k->row.mode != PROFILE_DEDICATED)
		return false;
	return p->profile ? strcmp(k->row.profile, p->profile) == 0
			  : p->uid >= 0 && k->row.uid == p->uid;
}

/* A revocation, while it is being written down that it was asked for, and then what it did. Its
 * texts are the request's. */
struct op_revoked {
	struct daemon *d;
	struct request *r;
	struct op_revoke_params p;
	char hash[SHA256_HEX_SIZE], profile[PROFILE_NAME_MAX]; /* of the one key that it names */
	bool acted;
	int64_t leases, keys;
	struct revoke_wait *wait; /* for what upstream says; owned */
	struct op_kept {
		char profile[PROFILE_NAME_MAX];
		enum profile_mode mode;
	} * kept; /* owned; the profiles whose key stays with those that had it */
	size_t n_kept;
};

/* The lease ends, but its key is not this holder's alone, or not LiteLLM's at all. */
static bool op_revoke_keeps_key(const struct op_revoke_params *p, const struct lease *l)
{
	const struct key *k = l->key;

	if (!k)
		return true; /* static */
	return k->row.mode == PROFILE_SHARED && !op_revoke_wants_key(p, k) &&
	       (k->row.state == KEY_LIVE || k->n_leases > 0);
}

static void op_revoke_note_kept(struct op_revoked *done, const struct lease *l)
{
	struct op_kept *kept;

	for (size_t i = 0; i < done->n_kept; i++)
		if (strcmp(done->kept[i].profile, l->row.profile) == 0)
			return;
	done->kept = xrealloc(done->kept, done->n_kept + 1, sizeof(*done->kept));
	kept = &done->kept[done->n_kept++];
	memcpy(kept->profile, l->row.profile, sizeof(kept->profile));
	kept->mode = l->key ? l->key->row.mode : PROFILE_STATIC;
}

static void op_revoked_pack_kept(const struct op_revoked *done, struct op_map *m)
{
	if (done->n_kept == 0)
		return;
	op_map_name(m, "kept");
	m->r = m->r < 0 ? m->r : pack_array(&m->pairs, done->n_kept);
	for (size_t i = 0; i < done->n_kept && m->r == 0; i++) {
		struct op_map inner = { 0 };

		op_map_text(&inner, "profile", done->kept[i].profile);
		op_map_text(&inner, "mode", profile_mode_name(done->kept[i].mode));
		m->r = op_map_end(&inner, &m->pairs);
	}
}

/* What upstream has not confirmed goes on working there. */
static void op_revoked_pack_pending(const struct op_revoked *done, int64_t unconfirmed,
				    struct op_map *m)
{
	const struct upstream *u = done->d->upstream;
	struct op_map pending = { 0 };
	int64_t since = 0;

	if (unconfirmed == 0 || !u)
		return;
	op_map_int(&pending, "keys", unconfirmed);
	if (!upstream_reachable(u, &since))
		op_map_time(&pending, "since_at_ms", since);
	op_map_text(&pending, "error", upstream_last_error(u));
	op_map_map(m, "pending", &pending);
}

static void op_revoked_free(struct op_revoked *done)
{
	revoke_wait_free(done->wait);
	free(done->kept);
	free(done);
}

/* Upstream has said what became of the keys, or takes its time. */
static void op_revoked_reply(void *userdata, int64_t unconfirmed)
{
	struct op_revoked *done = userdata;
	struct request *r = done->r;
	struct op_map m = { 0 };

	op_map_int(&m, "leases", done->leases);
	op_map_int(&m, "keys", done->keys);
	op_revoked_pack_pending(done, unconfirmed, &m);
	op_revoked_pack_kept(done, &m);
	op_revoked_free(done);
	r->gone = NULL;
	request_send(r, op_map_end(&m, request_reply(r)));
}

/* The admin has gone; the keys go all the same. */
static void op_revoked_gone(struct request *r)
{
	op_revoked_free(r->waiting_for);
	request_free(r);
}

static void op_revoked(void *userdata, int outcome)
{
	struct op_revoked *done = userdata;
	struct request *r = done->r;
	char why[TURN_WHY_SIZE];

	if (outcome == 0 && request_alive(r)) {
		r->gone = op_revoked_gone;
		r->waiting_for = done;
		revoke_wait_start(done->wait);
		return;
	}
	op_revoked_free(done);
	if (outcome == 0)
		request_free(r);
	else
		request_fail(r, PROTO_AUDIT_UNAVAILABLE, 1000, "%s",
			     turn_why(outcome, "the revocation", why));
}

static void op_revoke_all(struct op_revoked *done)
{
	const struct op_revoke_params *p = &done->p;
	struct daemon *d = done->d;
	struct lease *l, *next_lease;
	struct key *k;

	for (l = leases_first(d->leases); l; l = next_lease) {
		next_lease = leases_next(l);
		if (l->ending || !op_revoke_wants_lease(p, l))
			continue;
		done->leases++;
		if (l->key && l->key->row.mode == PROFILE_DEDICATED && l->key->n_leases == 1) {
			done->keys++;
			revoke_wait_add(done->wait, l->key);
		}
		lease_end(l, LEASE_REVOKED, "revoke", request_peer(done->r), NULL, NULL);
		if (op_revoke_keeps_key(p, l))
			op_revoke_note_kept(done, l);
	}
	/* Its waiters may be the last to hold other keys, but it stays itself. */
	for (k = keys_first(d->keys); k; k = keys_next(k)) {
		if (k->row.state == KEY_INTENT && op_revoke_wants_intent(p, k))
			done->keys += key_revoke_intent(k);
		if (!op_revoke_wants_key(p, k))
			continue;
		done->keys += k->row.mode != PROFILE_DEDICATED || key_row_is_pooled(&k->row);
		revoke_wait_add(done->wait, k);
		key_kill(k, "revoked");
	}
}

/* Hex digits, and no more than one key that begins with them: `ret`, or NULL if none does. */
static bool op_revoke_names_one(const struct daemon *d, const char *digits, struct key **ret)
{
	size_t len = strlen(digits), n = 0;

	*ret = NULL;
	for (struct key *k = keys_first(d->keys); k; k = keys_next(k)) {
		if (strncmp(k->row.hash, digits, len) != 0)
			continue;
		*ret = k;
		n++;
	}
	return strspn(digits, "0123456789abcdef") == len && n <= 1;
}

/* One that is configured no longer is known as long as something of it is left. */
static bool op_revoke_knows(const struct daemon *d, const char *profile)
{
	bool found = config_profile(d->config, profile) != NULL;

	for (const struct key *k = keys_first(d->keys); k && !found; k = keys_next(k))
		found = key_is_out(k) && strcmp(k->row.profile, profile) == 0;
	for (const struct lease *l = leases_first(d->leases); l && !found; l = leases_next(l))
		found = strcmp(l->row.profile, profile) == 0;
	return found;
}

/* All changes of a turn are one commit, so the answer to this one is the answer to all. */
static void op_revoke_note(struct op_revoked *done, change_done_fn fn, const char *outcome)
{
	const struct op_revoke_params *p = &done->p;
	struct change *c = change_new(done->d->turn, fn, done);
	struct audit_row *a = change_audit(c, "revoke", outcome, request_peer(done->r));
	const char *what = p->lease	 ? "lease"
			   : p->profile	 ? "profile"
			   : p->key_hash ? "key"
					 : "uid";
	char uid[24] = "";
	int n;

	if (p->uid >= 0)
		(void)snprintf(uid, sizeof(uid), " %lld", (long long)p->uid);
	if (p->lease)
		(void)snprintf(a->lease, sizeof(a->lease), "%s", p->lease);
	(void)snprintf(a->profile, sizeof(a->profile), "%s",
		       p->profile ? p->profile : done->profile);
	if (done->hash[0])
		keyring_tag(done->d->keyring, done->hash, a->key_tag);
	n = snprintf(a->detail, sizeof(a->detail), "by %s%s", what, uid);
	if (done->acted)
		(void)snprintf(a->detail + n, sizeof(a->detail) - (size_t)n,
			       "; leases: %lld, keys: %lld", (long long)done->leases,
			       (long long)done->keys);
	change_vital(c);
	change_submit(c);
}

/* What goes cannot be had back, so it goes once it is on record who asked for it. */
static void op_revoke_asked(void *userdata, int outcome)
{
	struct op_revoked *done = userdata;

	if (outcome != 0) {
		op_revoked(done, outcome);
		return;
	}
	op_revoke_all(done);
	done->acted = true;
	op_revoke_note(done, op_revoked, "ok");
}

void op_revoke(struct daemon *d, struct request *r)
{
	struct op_revoke_params p = { .uid = -1 };
	struct key *k = NULL;
	struct op_revoked *done;

	if (!op_read(r, op_revoke_params, ARRAY_SIZE(op_revoke_params), &p))
		return;
	if ((p.lease != NULL) + (p.profile != NULL) + (p.key_hash != NULL) + (p.uid >= 0) != 1) {
		request_fail(r, PROTO_INVALID_REQUEST, -1,
			     "say exactly one of lease, profile, uid, key_hash");
		return;
	}
	if (p.key_hash && !op_revoke_names_one(d, p.key_hash, &k)) {
		request_fail(
			r, PROTO_INVALID_REQUEST, -1,
			"key_hash is the SHA-256 of one key, or 8 or more of its hex digits that no other key has");
		return;
	}
	if (p.profile && !op_revoke_knows(d, p.profile)) {
		op_no_profile(r, p.profile);
		return;
	}
	if (p.lease && !leases_find(d->leases, p.lease)) {
		request_fail(r, PROTO_UNKNOWN_LEASE, -1, "no such lease, or it has ended");
		return;
	}
	done = xcalloc(1, sizeof(*done));
	*done = (struct op_revoked){ .d = d, .r = r, .p = p };
	done->wait = revoke_wait_new(d, op_revoked_reply, done);
	if (k) {
		memcpy(done->hash, k->row.hash, sizeof(done->hash));
		memcpy(done->profile, k->row.profile, sizeof(done->profile));
	} else if (p.key_hash && strlen(p.key_hash) == SHA256_HEX_SIZE - 1) {
		memcpy(done->hash, p.key_hash, sizeof(done->hash));
	}
	op_revoke_note(done, op_revoke_asked, "asked");
}
