/* Frees a taken alias, or gives way. Keys are always named by hash; a key by alias could be
 * anybody's. */
#include "daemon/names.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "core/alias.h"
#include "daemon/daemon.h"
#include "daemon/fail.h"
#include "daemon/key_work.h"
#include "daemon/keys.h"
#include "daemon/shared.h"
#include "daemon/turn.h"
#include "io/store.h"

#define NAMES_TRIES_MAX 8
#define NAMES_SUFFIX 6 /* characters of an id: enough to tell apart, short enough to read */

static void names_committed(void *userdata, int outcome)
{
	struct key *k = userdata;

	k->storing = false;
	if (outcome != 0)
		key_retry(k);
	else
		key_drive(k);
}

/* The intent takes another name; it is written down before upstream hears of it. */
static void names_give_way(struct key *k, const char *suffix)
{
	struct change *c = change_new(k->d->turn, names_committed, k);
	struct key_row to = k->row;
	char short_id[NAMES_SUFFIX + 1];

	(void)snprintf(short_id, sizeof(short_id), "%s", suffix);
	alias_append(k->row.alias, '-', short_id, to.alias, sizeof(to.alias));
	log_warning("profile %s: the alias %s is taken upstream; this key is called %s",
		    k->row.profile, k->row.alias, to.alias);
	change_key(c, k, KEY_SET_ALIAS, &to);
	k->storing = true;
	change_submit(c);
}

static void names_on_foreign_renamed(void *userdata, struct upstream_answer *a)
{
	struct key *k = userdata;

	k->call = NULL;
	FAIL_POINT("name.after_rename");
	if (a->litellm.kind == LITELLM_OK || a->litellm.kind == LITELLM_GONE)
		key_drive(k);
	else if (a->litellm.kind == LITELLM_UNAVAILABLE || a->litellm.kind == LITELLM_UNAUTHORIZED)
		key_retry(k);
	else
		names_give_way(k, k->row.id);
}

static void names_rename_foreign(struct key *k, const char *hash, const char *alias)
{
	key_call(k, LITELLM_UPDATE, litellm_update_body(hash, NULL, alias),
		 names_on_foreign_renamed);
}

/* Under the intent while its row is on the way: what is to be renamed, and to what. */
struct names_legacy {
	struct key *intent;
	char hash[SHA256_HEX_SIZE];
	char alias[ALIAS_MAX];
};

static void names_legacy_stored(void *userdata, int outcome)
{
	struct names_legacy *l = userdata;
	struct key *k = l->intent;
	struct key *legacy = keys_find_hash(k->d->keys, l->hash);

	k->storing = false;
	if (legacy && outcome != 0)
		legacy->row.state = KEY_DELETED; /* never stored: the object goes with its pin */
	if (outcome != 0)
		key_retry(k);
	else
		names_rename_foreign(k, l->hash, l->alias);
	if (legacy && outcome == 0)
		key_drive(legacy);
	key_unpin(k);
	free(l);
}

static void names_legacy_row(const struct key *k, const struct litellm_key *found,
			     struct key_row *row)
{
	int64_t now = clock_now().wall_ms;

	*row = (struct key_row){ .mode = k->row.mode,
				 .state = KEY_RETIRING,
				 .source = KEY_LEGACY,
				 .uid = -1,
				 .created_at_ms = found->created_at_ms,
				 .expires_at_ms = found->expires_at_ms,
				 .changed_at_ms = now,
				 .delete_at_ms = now + k->d->config->timing.legacy_delete_ms };
	crypt_draw_id(row->id);
	memcpy(row->profile, k->row.profile, sizeof(row->profile));
	memcpy(row->hash, found->hash, sizeof(row->hash));
	memcpy(row->team_id, found->team_id, sizeof(row->team_id));
}

/*
 * A key without our mark holds the name: the old provisioner's. Servers that still use it go on; it
 * is deleted after a day if the operator has clean-up on. Written down first, so that the day
 * counts from now whatever happens.
 */
static void names_set_legacy_aside(struct key *k, const struct litellm_key *found)
{
	struct names_legacy *l = xcalloc(1, sizeof(*l));
	struct change *c = change_new(k->d->turn, names_legacy_stored, l);
	struct audit_row *a = change_audit(c, "legacy", "renamed", NULL);
	bool cleanup = k->d->config->cleanup_old_keys;
	char suffix[16];

	(void)snprintf(suffix, sizeof(suffix), "old-%.8s", found->hash);
	l->intent = k;
	key_pin(k);
	memcpy(l->hash, found->hash, sizeof(l->hash));
	alias_append(k->row.alias, '-', suffix, l->alias, sizeof(l->alias));
	(void)snprintf(a->profile, sizeof(a->profile), "%s", k->row.profile);
	keyring_tag(k->d->keyring, found->hash, a->key_tag);
	(void)snprintf(a->detail, sizeof(a->detail), "now called %s; %s", l->alias,
		       cleanup ? "deleted in a day" : "kept (cleanup_old_keys is off)");
	log_warning(
		"profile %s: a key that this broker did not make held the alias %s; it was renamed to %s and goes on working; %s",
		k->row.profile, k->row.alias, l->alias,
		cleanup ? "it is deleted in 24 h unless you import it"
			: "it is kept (cleanup_old_keys is off)");
	if (cleanup) {
		struct key_row row;

		names_legacy_row(k, found, &row);
		memcpy(row.alias, l->alias, sizeof(row.alias));
		change_key(c, key_add(k->d, &row), KEY_SET_ALL, &row);
	}
	k->storing = true;
	change_submit(c);
}

static void names_moved(void *userdata, int outcome)
{
	struct key *own = userdata;

	own->storing = false;
	if (outcome == 0)
		key_want_rename(own);
	key_drive(own); /* its new name is upstream's next; then it drives the intent on */
}

/* An older generation of this very profile holds the name: it takes the name of a retired one. */
static void names_move_own(struct key *k, struct key *own)
{
	struct key_row to = own->row;
	struct change *c;

	key_drive_in(k,
		     k->d->config->timing.upstream_recheck_ms); /* or sooner, when that is done */
	if (strcmp(own->row.alias, k->row.alias) != 0) {
		key_want_rename(own); /* here it has its new name already */
		key_drive(own);
		return;
	}
	c = change_new(k->d->turn, names_moved, own);
	shared_old_alias(&own->row, to.alias);
	change_key(c, own, KEY_SET_ALIAS, &to);
	own->storing = true;
	change_submit(c);
}

/* One of our own install's keys holds the name. */
static void names_rename_own(struct key *k, const struct litellm_key *found)
{
	struct key *own = keys_find_hash(k->d->keys, found->hash);
	char alias[ALIAS_MAX];

	if (own && own->row.source == KEY_LEGACY) {
		names_rename_foreign(k, found->hash, own->row.alias);
	} else if (own && (own->row.mode == PROFILE_DEDICATED || !own->shared ||
			   own->shared != k->shared)) {
		names_give_way(k, k->row.id); /* a template that repeats within this install */
	} else if (own) {
		names_move_own(k, own);
	} else {
		alias_append(k->row.alias, '-', found->intent[0] ? found->intent : found->hash,
			     alias, sizeof(alias));
		names_rename_foreign(k, found->hash, alias);
	}
}

static void names_on_list(void *userdata, struct upstream_answer *a)
{
	struct key *k = userdata;
	const struct litellm_key *found = NULL;

	k->call = NULL;
	if (a->litellm.kind != LITELLM_OK) {
		k->names_tried--; /* nothing was learnt */
		key_retry(k);
		return;
	}
	for (size_t i = 0; i < a->litellm.n_keys && !found; i++)
		if (strcmp(a->litellm.keys[i].alias, k->row.alias) == 0 &&
		    strcmp(a->litellm.keys[i].hash, k->row.hash) != 0)
			found = &a->litellm.keys[i];
	if (!found)
		key_drive_in(k, 0); /* it has just been freed */
	else if (strcmp(found->install, store_install(k->d->store)) == 0 ||
		 keys_find_hash(k->d->keys, found->hash))
		names_rename_own(k, found);
	else if (found->install[0])
		names_give_way(k, k->shared && k->names_tried < 2 ? store_install(k->d->store)
								  : k->row.id);
	else
		names_set_legacy_aside(k, found);
}

void names_resolve(struct key *k)
{
	k->mint = MINT_PREPARE;
	if (++k->names_tried > NAMES_TRIES_MAX) {
		key_mint_failed(k, PROTO_UPSTREAM_REFUSED,
				"the alias is taken upstream, whatever it is changed to");
		return;
	}
	key_call(k, LITELLM_LIST, litellm_list_path(NULL, k->row.alias, 1), names_on_list);
}

static void names_on_renamed(void *userdata, struct upstream_answer *a)
{
	struct key *k = userdata;

	k->call = NULL;
	k->renaming = false;
	FAIL_POINT("rotate.after_rename");
	if (a->litellm.kind == LITELLM_UNAVAILABLE || a->litellm.kind == LITELLM_UNAUTHORIZED) {
		if (k->extend_wanted) /* nor can it be prolonged now */
			acquire_settle_all(&k->waiters, k, PROTO_UPSTREAM_UNAVAILABLE,
					   a->litellm.message);
		k->extend_wanted = false;
		if (k->shared && k->shared->next) /* which waits for the name */
			shared_trouble(k->shared, a->litellm.kind == LITELLM_UNAUTHORIZED,
				       a->litellm.message);
		key_retry(k);
		return;
	}
	if (a->litellm.kind == LITELLM_EXISTS && ++k->names_tried <= NAMES_TRIES_MAX) {
		names_give_way(k, k->row.id);
		return;
	}
	if (a->litellm.kind == LITELLM_REFUSED)
		log_warning("profile %s: upstream did not rename a key to %s: %s", k->row.profile,
			    k->row.alias, a->litellm.message);
	k->rename_wanted = !k->rename_sent; /* it may have got yet another name meanwhile */
	k->failures = 0;
	if (k->shared && k->shared->next)
		key_drive(k->shared->next);
	if (k->shared && k->shared->current && k->shared->current != k)
		key_drive(k->shared->current);
	key_drive(k);
}

/* An older generation must leave the name before the current one takes it. */
static bool names_must_wait(const struct key *k)
{
	if (!k->shared || k->shared->current != k)
		return false;
	for (const struct key *o = keys_first(k->d->keys); o; o = keys_next(o))
		if (o != k && o->shared == k->shared && o->rename_wanted &&
		    o->row.state != KEY_DELETED)
			return true;
	return false;
}

void key_rename(struct key *k)
{
	if (names_must_wait(k)) {
		key_drive_in(k, k->d->config->timing
					.upstream_recheck_ms); /* or sooner, when that is done */
		return;
	}
	k->rename_sent = true;
	key_call(k, LITELLM_UPDATE, litellm_update_body(k->row.hash, NULL, k->row.alias),
		 names_on_renamed);
	k->renaming = k->call != NULL;
}
