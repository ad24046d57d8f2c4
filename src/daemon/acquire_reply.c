/* Packs the answer of an acquire straight into the connection's wiping buffer. */
#include "daemon/acquire_reply.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/map.h"
#include "base/secret.h"
#include "core/audit.h"
#include "daemon/daemon.h"
#include "daemon/keys.h"
#include "daemon/leases.h"
#include "daemon/op.h"
#include "daemon/op_rows.h"

const char *acquire_user_name(uid_t uid, char *buf, size_t size)
{
	struct passwd pw, *found = NULL;
	char text[4096];

	(void)getpwuid_r(uid, &pw, text, sizeof(text), &found); /* no name is an answer too */
	(void)snprintf(buf, size, "%s", found ? found->pw_name : "");
	return buf;
}

static const struct profile *acquire_profile(const struct acquire *a)
{
	return config_profile(a->d->config, a->profile);
}

void acquire_describe_static(const struct acquire *a, struct audit_row *row)
{
	const struct profile *p = acquire_profile(a);
	char hash[SHA256_HEX_SIZE];

	if (!p || !p->static_key)
		return;
	crypt_key_hash(p->static_key, hash);
	keyring_tag(a->d->keyring, hash, row->key_tag);
}

/* Two thirds of the way to the nearer end, 10 % more or less, so that a thousand clients don't
 * return together: each lease has its own share. 0: it has no end. */
static int64_t acquire_refresh_at(const struct acquire *a)
{
	int64_t end = a->key && a->key->row.expires_at_ms ? a->key->row.expires_at_ms : INT64_MAX;
	int64_t now, way, share;

	if (a->lease->row.ends_at_ms)
		end = MIN_OF(end, a->lease->row.ends_at_ms);
	if (end == INT64_MAX)
		return 0;
	now = clock_now().wall_ms;
	way = MAX_OF(end - now, 0) * 2 / 3;
	share = map_hash(a->lease->row.id, sizeof(a->lease->row.id)) & 0xffff;
	return now + way + way / 10 * (share - 32768) / 32768;
}

/* A repeat may ask for longer than its lease was made for. A renewal, or a clock that was set,
 * hides how long that was. */
static int64_t acquire_ttl(const struct acquire *a)
{
	int64_t made_for = a->lease->row.ends_at_ms - a->lease->row.granted_at_ms;

	if (a->bind != LEASE_TTL)
		return 0;
	return made_for > 0 ? MIN_OF(a->ttl_ms, made_for) : a->ttl_ms;
}

static int acquire_pack_models(struct buf *b, const struct profile *p)
{
	size_t shown = op_models_shown(p);
	int r = pack_text(b, "models");

	r = r < 0 ? r : pack_array(b, shown);
	for (size_t i = 0; i < shown && r == 0; i++)
		r = pack_text(b, p->models[i]);
	if (shown == p->n_models)
		return r;
	r = r < 0 ? r : pack_text(b, "models_more");
	return r < 0 ? r : pack_int(b, (int64_t)(p->n_models - shown));
}

#define ACQUIRE_TIMES 4

struct acquire_time {
	const char *name;
	int64_t ms; /* 0: left out */
};

static int acquire_pack_times(const struct acquire_time times[ACQUIRE_TIMES], struct buf *b)
{
	int r = 0;

	for (size_t i = 0; i < ACQUIRE_TIMES && r == 0; i++) {
		if (times[i].ms == 0)
			continue;
		r = pack_text(b, times[i].name);
		r = r < 0 ? r : pack_int(b, times[i].ms);
	}
	return r;
}

static int acquire_pack(struct acquire *a, struct buf *b, const struct profile *p,
			const struct secret *secret)
{
	const struct acquire_time times[ACQUIRE_TIMES] = {
		{ "expires_at_ms", a->key ? a->key->row.expires_at_ms : 0 },
		{ "refresh_at_ms", acquire_refresh_at(a) },
		{ "lease_ends_at_ms", a->lease->row.ends_at_ms },
		{ "ttl_ms", acquire_ttl(a) }
	};
	enum profile_mode mode = a->key ? a->key->row.mode : PROFILE_STATIC;
	char hash[SHA256_HEX_SIZE];
	char shown[9];
	const char *const texts[][2] = { { "lease", a->lease->row.id },
					 { "profile", a->profile },
					 { "mode", profile_mode_name(mode) },
					 { "base_url", a->base_url },
					 { "key_hash", shown } };
	size_t n = 8 + (op_models_shown(p) < p->n_models);
	int r;

	for (size_t i = 0; i < ACQUIRE_TIMES; i++)
		n += times[i].ms != 0;
	r = pack_map(b, n);
	if (a->key)
		memcpy(hash, a->key->row.hash, sizeof(hash));
	else
		crypt_key_hash(secret, hash);
	op_short_hash(hash, shown);
	for (size_t i = 0; i < ARRAY_SIZE(texts) && r == 0; i++) {
		r = pack_text(b, texts[i][0]);
		r = r < 0 ? r : pack_text(b, texts[i][1]);
	}
	r = r < 0 ? r : pack_text(b, "api_key");
	r = r < 0 ? r : pack_text_n(b, secret_text(secret), secret_len(secret));
	r = r < 0 ? r : pack_text(b, "generation");
	r = r < 0 ? r : pack_int(b, a->key ? (int64_t)a->key->row.generation : 0);
	r = r < 0 ? r : acquire_pack_times(times, b);
	return r < 0 ? r : acquire_pack_models(b, p);
}

/* As things are now, a commit after the grant. False: it was answered with an error. */
static bool acquire_has(struct acquire *a, const struct profile *p, const struct secret *secret)
{
	const char *doubt = request_doubt(a->request);

	if (doubt)
		acquire_fail(a, PROTO_DENIED, -1, doubt);
	else if (!p)
		acquire_fail(a, PROTO_UNKNOWN_PROFILE, -1, "the profile is no longer configured");
	else if (!a->key && p->mode != PROFILE_STATIC)
		acquire_fail(a, PROTO_UPSTREAM_UNAVAILABLE, 100,
			     "the profile has other keys now; ask again");
	else if (!secret)
		acquire_fail(a, PROTO_INTERNAL, -1,
			     "the key of this lease cannot be read; the broker's log says why");
	return !doubt && p && secret;
}

bool acquire_reply(struct acquire *a)
{
	const struct profile *p = acquire_profile(a);
	const struct secret *secret = p ? p->static_key : NULL;
	struct request *r = a->request;
	struct buf *b;

	if (a->key)
		secret = key_need_secret(a->key) ? a->key->secret : NULL;
	if (!acquire_has(a, p, secret))
		return false;
	if (!a->key) { /* its place is that of this very key */
		free(a->base_url);
		a->base_url = config_base_url(a->d->config, p, NULL);
	}
	b = request_reply(r);
	request_send(r, acquire_pack(a, b, p, secret));
	acquire_done(a);
	return true;
}
