/* Packs the answer of an acquire straight into the connection's wiping buffer. */
#include "daemon/acquire_reply.h"

#include <pwd.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/secret.h"
#include "core/audit.h"
#include "daemon/daemon.h"
#include "daemon/keys.h"
#include "daemon/leases.h"
#include "daemon/op.h"

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
 * return together. */
static int64_t acquire_refresh_at(const struct acquire *a, int64_t now)
{
	int64_t end = INT64_MAX;
	int64_t way;
	uint16_t dice;

	if (a->key && a->key->row.expires_at_ms)
		end = a->key->row.expires_at_ms;
	if (a->lease->row.ends_at_ms)
		end = MIN_OF(end, a->lease->row.ends_at_ms);
	if (end == INT64_MAX)
		return 0;
	way = MAX_OF(end - now, 0) * 2 / 3;
	crypt_random(&dice, sizeof(dice));
	return now + way + way / 10 * ((int64_t)dice - 32768) / 32768;
}

static int acquire_pack_models(struct buf *b, const struct profile *p)
{
	int r = pack_text(b, "models");

	r = r < 0 ? r : pack_array(b, p->n_models);
	for (size_t i = 0; i < p->n_models && r == 0; i++)
		r = pack_text(b, p->models[i]);
	return r;
}

static int acquire_pack_times(struct acquire *a, struct buf *b)
{
	int64_t expires = a->key ? a->key->row.expires_at_ms : 0;
	int64_t refresh = acquire_refresh_at(a, clock_now().wall_ms);
	int64_t ends = a->lease->row.ends_at_ms;
	const struct {
		const char *name;
		int64_t at;
	} times[] = { { "expires_at_ms", expires },
		      { "refresh_at_ms", refresh },
		      { "lease_ends_at_ms", ends } };
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(times) && r == 0; i++) {
		if (times[i].at == 0)
			continue;
		r = pack_text(b, times[i].name);
		r = r < 0 ? r : pack_int(b, times[i].at);
	}
	return r;
}

static int acquire_pack(struct acquire *a, struct buf *b, const struct profile *p,
			const struct secret *secret)
{
	size_t n = 8 + (a->key && a->key->row.expires_at_ms) + (acquire_refresh_at(a, 0) != 0) +
		   (a->lease->row.ends_at_ms != 0);
	char hash[SHA256_HEX_SIZE];
	char shown[9];
	const char *const texts[][2] = { { "lease", a->lease->row.id },
					 { "profile", a->profile },
					 { "mode", profile_mode_name(p->mode) },
					 { "base_url", a->base_url },
					 { "key_hash", shown } };
	int r = pack_map(b, n);

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
	r = r < 0 ? r : acquire_pack_times(a, b);
	return r < 0 ? r : acquire_pack_models(b, p);
}

void acquire_reply(struct acquire *a)
{
	const struct profile *p = acquire_profile(a);
	const struct secret *secret = p ? p->static_key : NULL;
	struct request *r = a->request;
	struct buf *b;

	if (a->key && key_need_secret(a->key))
		secret = a->key->secret;
	if (!p || !secret) {
		acquire_fail(a, PROTO_INTERNAL, -1,
			     "the key of this lease cannot be read; the broker's log says why");
		return;
	}
	b = request_reply(r);
	request_send(r, acquire_pack(a, b, p, secret));
	acquire_done(a);
}
