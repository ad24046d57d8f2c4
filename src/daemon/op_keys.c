/* `rotate` and `revoke`: an administrator makes a new key, or takes keys away. */
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
#include "daemon/shared.h"
#include "daemon/turn.h"

struct op_rotate_params {
	const char *profile;
	int64_t timeout_ms;
};

static const struct op_param op_rotate_params[] = {
	{ "profile", OP_TEXT, true, offsetof(struct op_rotate_params, profile), 1,
	  PROFILE_NAME_MAX - 1 },
	{ "timeout_ms", OP_INT, false, offsetof(struct op_rotate_params, timeout_ms), 1, 600000 },
};

void op_rotate_reply(struct request *r, const struct key *k, const struct key *old)
{
	struct op_map m = { 0 }, retiring = { 0 };
	char hash[9];

	r->gone = NULL;
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
	request_send(r, op_map_end(&m, request_reply(r)));
}

/* The admin has gone; the rotation goes on. */
static void op_rotate_gone(struct request *r)
{
	struct shared *s = r->waiting_for;

	TAILQ_REMOVE(&s->rotate_waiters, r, of_waiters);
	request_free(r);
}

/* A rotation that was asked for, while that is being written down. */
struct op_rotating {
	struct shared *s;
	struct request *r;
	int64_t timeout_ms;
};

static void op_rotate_noted(void *userdata, int outcome)
{
	struct op_rotating *o = userdata;

	if (outcome != 0) {
		request_fail(o->r, PROTO_AUDIT_UNAVAILABLE, 1000,
			     "the rotation cannot be recorded now");
	} else {
		if (request_alive(o->r)) {
			o->r->gone = op_rotate_gone;
			o->r->waiting_for = o->s;
			TAILQ_INSERT_TAIL(&o->s->rotate_waiters, o->r, of_waiters);
		} else {
			request_free(o->r);
		}
		shared_rotate(o->s, o->timeout_ms);
	}
	free(o);
}

/* Who asked for it is on record before it begins; its end is another row. */
static void op_rotate_note(struct daemon *d, struct request *r, struct shared *s,
			   int64_t timeout_ms)
{
	struct op_rotating *o = xcalloc(1, sizeof(*o));
	struct change *c = change_new(d->turn, op_rotate_noted, o);
	struct audit_row *a = change_audit(c, "rotate", "asked", request_peer(r));

	*o = (struct op_rotating){ .s = s, .r = r, .timeout_ms = timeout_ms };
	(void)snprintf(a->profile, sizeof(a->profile), "%s", s->name);
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
		request_fail(r, PROTO_UNKNOWN_PROFILE, -1, "no profile is called \"%s\"",
			     p.profile);
	} else if (!s) {
		request_fail(
			r, PROTO_INVALID_REQUEST, -1,
			"profile %s is %s: only a shared profile has a key to rotate; `keybroker revoke` takes keys away",
			p.profile, profile_mode_name(profile->mode));
	} else {
		op_rotate_note(d, r, s, p.timeout_ms);
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
	if (k->row.state != KEY_LIVE && k->row.state != KEY_RETIRING)
		return false;
	if (k->row.source == KEY_LEGACY && !p->key_hash)
		return false; /* not of this broker's making: only by its own name */
	return (p->profile && strcmp(k->row.profile, p->profile) == 0) ||
	       (p->key_hash && strncmp(k->row.hash, p->key_hash, strlen(p->key_hash)) == 0);
}

struct op_revoked {
	struct request *r;
	int64_t leases, keys;
};

static void op_revoked(void *userdata, int outcome)
{
	struct op_revoked *done = userdata;
	struct op_map m = { 0 };

	if (outcome != 0) {
		request_fail(done->r, PROTO_AUDIT_UNAVAILABLE, 1000,
			     "the revocation cannot be recorded now");
	} else {
		op_map_int(&m, "leases", done->leases);
		op_map_int(&m, "keys", done->keys);
		request_send(done->r, op_map_end(&m, request_reply(done->r)));
	}
	free(done);
}

static void op_revoke_all(struct daemon *d, struct request *r, const struct op_revoke_params *p,
			  struct op_revoked *done)
{
	struct lease *l, *next_lease;
	struct key *k, *next_key;

	for (l = leases_first(d->leases); l; l = next_lease) {
		next_lease = leases_next(l);
		if (l->ending || !op_revoke_wants_lease(p, l))
			continue;
		done->leases++;
		done->keys +=
			l->key && l->key->row.mode == PROFILE_DEDICATED && l->key->n_leases == 1;
		lease_end(l, LEASE_REVOKED, "revoke", request_peer(r), NULL, NULL);
	}
	for (k = keys_first(d->keys); k; k = next_key) {
		next_key = keys_next(k);
		if (!op_revoke_wants_key(p, k))
			continue;
		done->keys += k->row.mode != PROFILE_DEDICATED;
		key_kill(k, "revoked");
	}
}

/* Hex digits, and no more than one key that begins with them. */
static bool op_revoke_names_one(const struct daemon *d, const char *digits)
{
	size_t len = strlen(digits), n = 0;

	for (const struct key *k = keys_first(d->keys); k; k = keys_next(k))
		n += strncmp(k->row.hash, digits, len) == 0;
	return strspn(digits, "0123456789abcdef") == len && n <= 1;
}

static void op_revoke_detail(const struct op_revoke_params *p, const struct op_revoked *done,
			     struct audit_row *a)
{
	const char *what = p->lease	 ? "lease"
			   : p->profile	 ? "profile"
			   : p->key_hash ? "key"
					 : "uid";

	if (p->lease)
		(void)snprintf(a->lease, sizeof(a->lease), "%s", p->lease);
	if (p->profile)
		(void)snprintf(a->profile, sizeof(a->profile), "%s", p->profile);
	(void)snprintf(a->detail, sizeof(a->detail), "by %s%s%.0lld: %lld leases, %lld keys", what,
		       p->uid >= 0 ? " " : "", (long long)MAX_OF(p->uid, 0),
		       (long long)done->leases, (long long)done->keys);
}

void op_revoke(struct daemon *d, struct request *r)
{
	struct op_revoke_params p = { .uid = -1 };
	struct op_revoked *done;
	struct audit_row *a;
	struct change *c;

	if (!op_read(r, op_revoke_params, ARRAY_SIZE(op_revoke_params), &p))
		return;
	if ((p.lease != NULL) + (p.profile != NULL) + (p.key_hash != NULL) + (p.uid >= 0) != 1) {
		request_fail(r, PROTO_INVALID_REQUEST, -1,
			     "say exactly one of lease, profile, uid, key_hash");
		return;
	}
	if (p.key_hash && !op_revoke_names_one(d, p.key_hash)) {
		request_fail(
			r, PROTO_INVALID_REQUEST, -1,
			"key_hash is the SHA-256 of one key, or 8 or more of its hex digits that no other key has");
		return;
	}
	if (p.profile && !config_profile(d->config, p.profile)) {
		request_fail(r, PROTO_UNKNOWN_PROFILE, -1, "no profile is called \"%s\"",
			     p.profile);
		return;
	}
	if (p.lease && !leases_find(d->leases, p.lease)) {
		request_fail(r, PROTO_UNKNOWN_LEASE, -1, "no such lease, or it has ended");
		return;
	}
	done = xcalloc(1, sizeof(*done));
	done->r = r;
	op_revoke_all(d, r, &p, done);
	/* All changes of a turn are one commit, so the answer to this one is the answer to all. */
	c = change_new(d->turn, op_revoked, done);
	a = change_audit(c, "revoke", "ok", request_peer(r));
	op_revoke_detail(&p, done, a);
	if (p.key_hash && strlen(p.key_hash) == SHA256_HEX_SIZE - 1)
		keyring_tag(d->keyring, p.key_hash, a->key_tag);
	change_submit(c);
}
