/*
 * `import`: adopts a key that somebody else made (the old provisioner's service_token.json) as a
 * generation of a shared profile. Upstream is asked first whether it is alive; then it is written
 * down; its name is put right afterwards.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "core/alias.h"
#include "daemon/daemon.h"
#include "daemon/fail.h"
#include "daemon/import_compare.h"
#include "daemon/key_work.h"
#include "daemon/keys.h"
#include "daemon/op.h"
#include "daemon/op_map.h"
#include "daemon/shared.h"
#include "daemon/turn.h"
#include "daemon/upstream.h"
#include "io/store_rows.h"

struct op_import_params {
	const char *profile, *token, *alias, *team_id, *base_url;
};

#define PARAM(name, required, max)                                                        \
	{                                                                                 \
#name, OP_TEXT, required, offsetof(struct op_import_params, name), 1, max \
	}
static const struct op_param op_import_params[] = {
	PARAM(profile, false, PROFILE_NAME_MAX - 1),
	PARAM(token, true, SECRET_MAX),
	PARAM(alias, true, ALIAS_MAX - 1),
	PARAM(team_id, false, TEAM_ID_MAX - 1),
	PARAM(base_url, false, 1024),
};
#undef PARAM

/* One import under way; at most one per shared profile, which owns it. */
struct import {
	struct daemon *d;
	struct shared *s;
	struct request *r;
	struct secret *secret;
	struct key_row row;
	struct key *key;
	struct upstream_call *call;
	char *file_team, *file_url; /* owned; NULL where the file says nothing */
	char **warnings;	    /* owned: what the key differs in from the profile's own */
	size_t n_warnings;
};

void import_free(struct import *i)
{
	if (!i)
		return;
	if (i->call)
		upstream_cancel(i->call);
	turn_late_cancel(i->d->turn, i);
	secret_free(i->secret);
	for (size_t n = 0; n < i->n_warnings; n++)
		free(i->warnings[n]);
	free(i->warnings);
	free(i->file_team);
	free(i->file_url);
	free(i);
}

static void import_end(struct import *i)
{
	i->s->import = NULL;
	import_free(i);
}

void import_abort(struct import *i, enum proto_error code, const char *message)
{
	struct request *r = i->r;

	import_end(i);
	request_fail(r, code, -1, "%s", message);
}

static void import_stored(void *userdata, int outcome)
{
	struct import *i = userdata;
	struct shared *s = i->s;
	struct key *k = i->key, *old = s->current;
	char hash[9], why[TURN_WHY_SIZE];
	struct op_map m = { 0 };

	s->storing = false;
	k->storing = false;
	if (outcome != 0) {
		if (!k->shared && k->row.source != KEY_LEGACY)
			k->row.state = KEY_DELETED; /* was never stored; goes with its pin */
		import_abort(i, PROTO_AUDIT_UNAVAILABLE, turn_why(outcome, "the import", why));
		shared_drive(s);
		return;
	}
	k->shared = s;
	k->checked = true;
	key_want_rename(k);
	if (old)
		key_want_rename(old);
	log_info("profile %s: imported a key as generation %llu", s->name,
		 (unsigned long long)k->row.generation);
	for (size_t n = 0; n < i->n_warnings; n++)
		log_warning("profile %s: imported key: %s", s->name, i->warnings[n]);
	op_short_hash(k->row.hash, hash);
	op_map_text(&m, "profile", s->name);
	op_map_int(&m, "generation", (int64_t)k->row.generation);
	op_map_text(&m, "alias", k->row.alias);
	op_map_text(&m, "key_hash", hash);
	op_map_time(&m, "expires_at_ms", k->row.expires_at_ms);
	if (i->n_warnings > 0)
		op_map_texts(&m, "warnings", i->warnings, i->n_warnings);
	request_send(i->r, op_map_end(&m, request_reply(i->r)));
	import_end(i);
	shared_serve(s, k);
	if (old)
		key_drive(old); /* its name must be free first: then it drives the new one on */
}

/* A key that was set aside as the old provisioner's already has a row: it becomes this one. */
static struct key *import_key(struct import *i)
{
	struct key *known = keys_find_hash(i->d->keys, i->row.hash);

	if (known)
		memcpy(i->row.id, known->row.id, sizeof(i->row.id));
	return known ? known : key_add(i->d, &i->row);
}

/* A key that was still being made is not needed any more: the imported one has its generation. */
static void import_take_the_place(struct import *i)
{
	struct key *next = i->s->next;

	if (!next)
		return;
	i->s->next = NULL;
	next->shared = NULL;
	key_abandon(next, "an imported key takes its place");
}

/* As it is now: a reload may have taken it away since the import began. */
static const struct profile *import_profile(const struct import *i)
{
	const struct profile *p = config_profile(i->d->config, i->s->name);

	return p && p->mode == PROFILE_SHARED ? p : NULL;
}

/* One that nobody ever had gives its number away, and goes at once. */
static void import_replace(struct import *i, struct change *c, int64_t now_ms)
{
	struct key_row old = i->s->current->row, to;

	old.state = KEY_RETIRING;
	old.changed_at_ms = now_ms;
	if (old.generation == i->row.generation)
		old.generation = 0;
	else
		old.delete_at_ms = now_ms + shared_grace_ms(i->s->current);
	to = old;
	shared_old_alias(&old, to.alias);
	(void)key_audit(c, i->s->current, "retire", "an imported key takes its place");
	change_key(c, i->s->current,
		   KEY_SET_STATE | KEY_SET_DELETE_AT | KEY_SET_ALIAS | KEY_SET_IDENTITY, &to);
}

static void import_store(struct import *i)
{
	const struct profile *p = import_profile(i);
	const struct alias_values values = { .host = i->d->host, .profile = i->s->name };
	struct change *c = change_new(i->d->turn, import_stored, i);
	struct audit_row *a = change_audit(c, "import", "ok", request_peer(i->r));

	alias_expand(p->alias, &values, i->row.alias, sizeof(i->row.alias));
	i->row.changed_at_ms = a->wall_ms;
	i->key = import_key(i);
	i->key->storing = true;
	change_key(c, i->key, KEY_SET_ALL, &i->row);
	change_key_secret(c, i->secret);
	key_describe(i->key, a);
	memcpy(a->profile, i->row.profile,
	       sizeof(i->row.profile)); /* not that which set it aside */
	(void)snprintf(a->detail, sizeof(a->detail), "generation %llu",
		       (unsigned long long)i->row.generation);
	import_take_the_place(i);
	if (i->s->current)
		import_replace(i, c, a->wall_ms);
	i->s->storing = true;
	FAIL_POINT("import.before_commit");
	change_submit(c);
}

/* No lease has it, none had it, and none is getting it in this turn. */
static bool import_nobody_had(const struct key *k)
{
	bool leased = true;

	if (k->pins > 0 || !TAILQ_EMPTY(&k->waiters) ||
	    k->row.changed_at_ms < clock_now().wall_ms - DAEMON_KEEP_PAST_MS)
		return false;
	return store_key_was_leased(k->d->store, k->row.id, &leased) == 0 && !leased;
}

static void import_number(struct import *i)
{
	const struct key *current = i->s->current;
	uint64_t last = 0;

	if (i->s->next) {
		i->row.generation = i->s->next->row.generation;
		return;
	}
	if (current && import_nobody_had(current)) {
		i->row.generation = current->row.generation;
		return;
	}
	if (store_last_generation(i->d->store, i->s->name, &last) < 0)
		log_warning("profile %s: its last generation cannot be read; it counts from 1",
			    i->s->name);
	i->row.generation = last + 1;
}

/* Asked again when it is adopted: two imports of one key may be under way. */
static bool import_is_new(const struct import *i)
{
	const struct key *known = keys_find_hash(i->d->keys, i->row.hash);

	return !known || (known->row.source == KEY_LEGACY && !known->storing && !known->call);
}

static void import_adopt(void *userdata);

/* What the profile was storing is stored. */
static void import_again(void *userdata, int outcome)
{
	struct import *i = userdata;
	char why[TURN_WHY_SIZE];

	if (outcome == 0)
		turn_late(i->d->turn, import_adopt, i);
	else
		import_abort(i, PROTO_AUDIT_UNAVAILABLE, turn_why(outcome, "the import", why));
}

/* At the turn's end: by then it is known who else gets the present key in it. */
static void import_adopt(void *userdata)
{
	struct import *i = userdata;

	if (!import_is_new(i)) {
		import_abort(i, PROTO_INVALID_REQUEST,
			     "this key has been imported, or its time is over, meanwhile");
	} else if (!import_profile(i)) {
		import_abort(i, PROTO_UNKNOWN_PROFILE, "the profile is no longer configured");
	} else if (i->s->storing) {
		change_submit(change_new(i->d->turn, import_again, i));
	} else {
		import_number(i);
		import_store(i);
	}
}

static void import_look_for_differences(struct import *i, const struct litellm_answer *found)
{
	const struct profile *p = import_profile(i);
	const struct key *own = i->s->current;
	const struct import_compare c = {
		.config = i->d->config,
		.profile = p,
		.own_team = p && p->team_id ? p->team_id
			    : own	    ? own->row.team_id
					    : NULL,
		.file_team = i->file_team,
		.file_url = i->file_url,
		.found = found,
	};

	if (p)
		i->warnings = import_compare(&c, &i->n_warnings);
}

static void import_on_info(void *userdata, struct upstream_answer *a)
{
	struct import *i = userdata;
	const struct litellm_key *found = &a->litellm.key;
	int64_t expires_at_ms =
		found->expires_at_ms ? found->expires_at_ms + a->clock_offset_ms : 0;

	i->call = NULL;
	i->row.expires_at_ms = expires_at_ms;
	i->row.created_at_ms = found->created_at_ms;
	memcpy(i->row.team_id, found->team_id, sizeof(i->row.team_id));
	if (a->litellm.kind == LITELLM_GONE) {
		import_abort(i, PROTO_INVALID_REQUEST,
			     "LiteLLM does not know this key: nothing to adopt");
	} else if (a->litellm.kind != LITELLM_OK) {
		import_abort(i, PROTO_UPSTREAM_UNAVAILABLE, a->litellm.message);
	} else if (found->blocked || (expires_at_ms && expires_at_ms <= clock_now().wall_ms)) {
		import_abort(i, PROTO_INVALID_REQUEST,
			     "this key is blocked or expired at LiteLLM: nothing to adopt");
	} else if (found->install[0] && strcmp(found->install, store_install(i->d->store)) != 0) {
		import_abort(
			i, PROTO_INVALID_REQUEST,
			"another broker made this key and would not expect it to be renamed or deleted");
	} else {
		import_look_for_differences(i, &a->litellm);
		turn_late(i->d->turn, import_adopt, i);
	}
}

static void import_row(struct import *i)
{
	i->row = (struct key_row){
		.mode = PROFILE_SHARED, .state = KEY_LIVE, .source = KEY_IMPORTED, .uid = -1
	};
	crypt_draw_id(i->row.id);
	memcpy(i->row.profile, i->s->name, sizeof(i->row.profile));
	crypt_key_hash(i->secret, i->row.hash);
}

static void import_start(struct daemon *d, struct request *r, struct shared *s,
			 const struct op_import_params *p)
{
	struct import *i = xcalloc(1, sizeof(*i));

	i->d = d;
	i->r = r;
	i->s = s;
	i->secret = secret_new(p->token, strlen(p->token));
	if (!i->secret)
		abort();
	s->import = i;
	i->file_team = p->team_id ? xstrdup(p->team_id) : NULL;
	i->file_url = p->base_url ? xstrdup(p->base_url) : NULL;
	import_row(i);
	if (upstream_start(d->upstream,
			   &(struct upstream_question){ .op = LITELLM_INFO,
							.text = litellm_info_path(i->row.hash) },
			   import_on_info, i, &i->call) < 0)
		import_abort(i, PROTO_INTERNAL, "upstream cannot be asked");
}

/* Unix milliseconds or RFC 3339; upstream's own word on it counts, so it is only looked at. */
static bool import_created_at_is_fine(const struct request *r)
{
	const struct value *v = value_get(request_params(r), "created_at");
	int64_t ms;

	if (!v || value_type(v) == VALUE_NIL || value_int(v, &ms))
		return true;
	return value_text(v) && litellm_parse_time(value_text(v), &ms) == 0;
}

void op_import(struct daemon *d, struct request *r)
{
	struct op_import_params p = { .profile = "service" };
	const struct profile *profile;
	struct shared *s;
	struct key *known;
	char hash[SHA256_HEX_SIZE];

	if (!op_read(r, op_import_params, ARRAY_SIZE(op_import_params), &p))
		return;
	if (!import_created_at_is_fine(r)) {
		request_fail(
			r, PROTO_INVALID_REQUEST, -1,
			"created_at must be RFC 3339 (2026-01-02T03:04:05Z) or Unix milliseconds");
		return;
	}
	crypt_sha256_hex(p.token, strlen(p.token), hash);
	profile = config_profile(d->config, p.profile);
	s = profile && profile->mode == PROFILE_SHARED ? shared_find(d, p.profile) : NULL;
	known = keys_find_hash(d->keys, hash);
	if (!profile)
		op_no_profile(r, p.profile);
	else if (!s || !d->upstream)
		request_fail(r, PROTO_INVALID_REQUEST, -1,
			     "profile %s is %s: only a shared profile adopts a key", p.profile,
			     profile_mode_name(profile->mode));
	else if (known && known->row.source != KEY_LEGACY)
		request_fail(r, PROTO_INVALID_REQUEST, -1,
			     "this key is here already: profile %s, generation %llu",
			     known->row.profile, (unsigned long long)known->row.generation);
	else if (s->import)
		request_fail(r, PROTO_LIMIT_EXCEEDED, 1000,
			     "another import into this profile is under way; try again");
	else
		import_start(d, r, s, &p);
}
