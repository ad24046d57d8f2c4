/* The table of keys and what all their activities share. Owns the keys; a key frees itself when it
 * is over. */
#include "daemon/keys.h"

#include <errno.h>
#include <event2/event.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/log.h"
#include "base/secret.h"
#include "base/text.h"
#include "daemon/daemon.h"
#include "daemon/key_work.h"
#include "daemon/names.h"
#include "daemon/report.h"
#include "daemon/shared.h"
#include "daemon/turn.h"
#include "io/store_rows.h"

#define KEY_RETRY_MAX_MS INT64_C(60000)

struct keys {
	struct key *by_id;
};

struct keys *keys_new(struct daemon *d)
{
	(void)d;
	return xcalloc(1, sizeof(struct keys));
}

static void key_free(struct key *k)
{
	pool_leave(k);
	if (k->call)
		upstream_cancel(k->call);
	report_free(k->report);
	if (k->timer)
		event_free(k->timer);
	secret_free(k->secret);
	free(k);
}

void keys_free(struct keys *keys)
{
	struct key *k, *next;

	if (!keys)
		return;
	HASH_ITER (by_id, keys->by_id, k, next) {
		HASH_DELETE(by_id, keys->by_id, k);
		key_free(k);
	}
	free(keys);
}

static void key_on_timer(int fd, short what, void *userdata)
{
	struct key *k = userdata;

	(void)fd;
	(void)what;
	k->drive_at_ms = 0;
	key_drive(k);
}

/* From now on the wall clock may be set: what was said to remain remains. */
static void key_note_times(struct key *k)
{
	const struct key_row *row = &k->row;
	struct instant now = clock_now();
	int64_t left = row->delete_at_ms - now.wall_ms;

	/* it was set when the row changed: more is left only by a clock that has been set back */
	if (row->delete_at_ms >= row->changed_at_ms)
		left = MIN_OF(left, row->delete_at_ms - row->changed_at_ms);
	k->delete_boot_ms = now.boot_ms + left;
	k->changed_boot_ms = now.boot_ms + MIN_OF(row->changed_at_ms - now.wall_ms, 0);
}

struct key *key_add(struct daemon *d, const struct key_row *row)
{
	struct key *k = xcalloc(1, sizeof(*k));

	k->d = d;
	k->row = *row;
	key_note_times(k);
	TAILQ_INIT(&k->waiters);
	k->timer = evtimer_new(d->base, key_on_timer, k);
	if (!k->timer)
		abort();
	HASH_ADD_KEYPTR(by_id, d->keys->by_id, k->row.id, strlen(k->row.id), k);
	return k;
}

struct key *key_add_intent(struct daemon *d, const struct key_row *row)
{
	struct key *k = key_add(d, row);

	if (row->source == KEY_MINTED) {
		k->secret = crypt_draw_key();
		if (!k->secret)
			abort();
		crypt_key_hash(k->secret, k->row.hash);
	}
	return k;
}

struct key *keys_find(const struct keys *keys, const char *id)
{
	struct key *k;

	HASH_FIND(by_id, keys->by_id, id, strlen(id), k);
	return k;
}

struct key *keys_find_hash(const struct keys *keys, const char *hash)
{
	for (struct key *k = keys->by_id; k; k = k->by_id.next)
		if (k->row.state != KEY_DELETED && strcmp(k->row.hash, hash) == 0)
			return k;
	return NULL;
}

struct key *keys_first(const struct keys *keys)
{
	return keys->by_id;
}

struct key *keys_next(const struct key *key)
{
	return key->by_id.next;
}

struct key *keys_find_intent(const struct keys *keys, int64_t uid, const char *profile,
			     const char *request_id)
{
	for (struct key *k = keys->by_id; k; k = k->by_id.next)
		if (k->row.state == KEY_INTENT && k->row.mode == PROFILE_DEDICATED && !k->orphan &&
		    !k->retire_why && k->row.uid == uid && strcmp(k->row.profile, profile) == 0 &&
		    strcmp(k->row.request_id, request_id) == 0)
			return k;
	return NULL;
}

void key_pin(struct key *k)
{
	k->pins++;
}

static bool key_over(const struct key *k)
{
	return k->row.state == KEY_DELETED && k->pins == 0 && !k->call && !k->storing;
}

void key_unpin(struct key *k)
{
	k->pins--;
	if (!key_over(k))
		return;
	/* Each way to the end has told its waiters; one that is forgotten must not be left
	 * dangling. */
	acquire_fail_all(&k->waiters, PROTO_UPSTREAM_UNAVAILABLE, 100,
			 "the key was taken away meanwhile; ask again");
	shared_forget(k);
	HASH_DELETE(by_id, k->d->keys->by_id, k);
	key_free(k);
}

struct key_row *key_pending(struct key *k)
{
	if (!k->drafted)
		k->pending = k->row;
	k->drafted = true;
	return &k->pending;
}

void key_settle(struct key *k, bool committed)
{
	bool timed = k->drafted && committed &&
		     (k->pending.delete_at_ms != k->row.delete_at_ms ||
		      k->pending.changed_at_ms != k->row.changed_at_ms);

	if (k->drafted && committed)
		k->row = k->pending;
	if (timed)
		key_note_times(k);
	k->drafted = false;
	pool_settle(k);
}

void key_row_set(struct key_row *row, unsigned set, const struct key_row *to)
{
	if (set & KEY_SET_ALL)
		*row = *to;
	if (set & KEY_SET_STATE && key_may_change(row->state, to->state)) {
		row->state = to->state;
		row->changed_at_ms = to->changed_at_ms;
	}
	if (set & KEY_SET_ALIAS)
		memcpy(row->alias, to->alias, sizeof(row->alias));
	if (set & KEY_SET_EXPIRY)
		row->expires_at_ms = to->expires_at_ms;
	if (set & KEY_SET_DELETE_AT)
		/* never sooner: a request whose answer was lost may still bring the key back */
		row->delete_at_ms = MAX_OF(row->delete_at_ms, to->delete_at_ms);
	if (set & KEY_SET_DELETE_SOONER) {
		row->delete_at_ms = to->delete_at_ms;
		row->dead = true;
	}
	if (set & KEY_SET_TEAM)
		memcpy(row->team_id, to->team_id, sizeof(row->team_id));
	if (set & KEY_SET_AT_ONCE)
		row->at_once = to->at_once;
	if (set & KEY_SET_OWNER) {
		row->uid = to->uid;
		memcpy(row->request_id, to->request_id, sizeof(row->request_id));
	}
	if (set & KEY_SET_IDENTITY) {
		memcpy(row->hash, to->hash, sizeof(row->hash));
		row->source = to->source;
		row->generation = to->generation;
		row->created_at_ms = to->created_at_ms;
	}
}

/* A name is for people; a key that is to go does not wait for it. */
static void key_leave_rename(struct key *k)
{
	if (!k->renaming || !key_goes_first(k))
		return;
	upstream_cancel(TAKE(k->call));
	k->renaming = false;
}

void key_drive(struct key *k)
{
	if (!k->storing && !k->d->stopping)
		key_leave_rename(k);
	if (k->call || k->storing || k->d->stopping)
		return;
	if (k->retire_why && (k->row.state == KEY_LIVE || k->row.state == KEY_INTENT)) {
		key_retire(k, k->retire_grace_ms,
			   k->retire_why); /* could not be written down before */
		return;
	}
	if (k->row.state == KEY_LIVE && !k->checked) {
		key_check(k); /* before anything that upstream may hold up: callers wait for it */
		return;
	}
	if (k->rename_wanted && k->row.state != KEY_DELETED && !key_goes_first(k)) {
		key_rename(k);
		return;
	}
	switch (k->row.state) {
	case KEY_INTENT:
		if (k->orphan)
			key_burn(k);
		else
			key_mint(k);
		return;
	case KEY_LIVE:
		key_extend(k);
		return;
	case KEY_RETIRING:
	case KEY_BURNED:
		key_delete_if_due(k);
		return;
	case KEY_DELETED:
		return;
	}
}

void key_drive_in(struct key *k, int64_t ms)
{
	/* A day at most: what is due later is looked at again then, whatever the clocks did
	 * meanwhile. */
	int64_t wait = MIN_OF(MAX_OF(ms, 1), INT64_C(86400000));
	int64_t at = clock_now().boot_ms + wait;
	struct timeval tv = { .tv_sec = wait / 1000, .tv_usec = wait % 1000 * 1000 };

	if (k->drive_at_ms && k->drive_at_ms <= at)
		return; /* it is looked at sooner anyway */
	k->drive_at_ms = at;
	(void)evtimer_add(k->timer,
			  &tv); /* fails only without memory, when the process ends anyway */
}

void key_retry(struct key *k)
{
	int64_t ms = k->d->config->timing.upstream_recheck_ms / 8;

	ms = MIN_OF(ms << MIN_OF(k->failures, 10U), MIN_OF(KEY_RETRY_MAX_MS, 8 * ms));
	k->failures++;
	key_drive_in(k, ms);
}

void keys_hurry(struct daemon *d)
{
	for (struct key *k = keys_first(d->keys); k; k = keys_next(k)) {
		k->failures = 0;
		k->extend_after_ms = 0;
		key_drive_in(k, 0);
	}
}

/* A dedicated key is its holder's, and checked when that asks for it again. */
void keys_move(struct daemon *d)
{
	for (struct key *k = keys_first(d->keys); k; k = keys_next(k)) {
		k->moved = true;
		k->trusted = false;
		if (k->shared || k->pooled.pool)
			k->checked = false;
	}
}

static void key_no_upstream(struct key *k)
{
	log_error("profile %s: no upstream is configured", k->row.profile);
	key_drive_in(k, k->d->config->timing.upstream_recheck_ms);
}

int64_t key_party(const struct key *k)
{
	return k->row.mode == PROFILE_DEDICATED ? k->row.uid + 1 : 0;
}

void key_call(struct key *k, enum litellm_op op, char *text, upstream_done_fn done)
{
	int r = -ENOTCONN;

	if (!text)
		abort(); /* out of memory */
	if (k->d->upstream)
		r = upstream_start(
			k->d->upstream,
			&(struct upstream_question){ .op = op,
						     .text = text,
						     .deadline_boot_ms = k->call_deadline_ms,
						     .party = key_party(k) },
			done, k, &k->call);
	else
		json_text_free(text);
	k->call_deadline_ms = 0;
	if (r < 0)
		key_no_upstream(k);
}

void key_hold_late(struct key *k)
{
	k->late_boot_ms = clock_now().boot_ms + k->d->config->timing.burn_delete_ms;
}

void key_expect_late(struct key *k)
{
	key_hold_late(k);
	k->late_until_ms = clock_now().wall_ms + k->d->config->timing.burn_delete_ms;
	k->row.delete_at_ms = k->late_until_ms; /* goes to the disk when the key becomes live */
}

void key_want_rename(struct key *k)
{
	k->rename_wanted = true;
	k->rename_sent = false;
}

bool key_need_secret(struct key *k)
{
	int r;

	if (k->secret)
		return true;
	r = store_key_secret(k->d->store, k->row.id, &k->secret);
	if (r < 0)
		log_error("key %s of profile %s: its secret cannot be read (%s)", k->row.id,
			  k->row.profile, strerrordesc_np(-r));
	return r == 0;
}

void key_drop_secret(struct key *k)
{
	secret_free(TAKE(k->secret));
}

int64_t key_remaining_ms(const struct key *k, int64_t wall_ms)
{
	return k->row.expires_at_ms == 0 ? INT64_MAX : k->row.expires_at_ms - wall_ms;
}

const struct profile *key_profile(const struct key *k)
{
	return config_profile(k->d->config, k->row.profile);
}

bool key_is_out(const struct key *k)
{
	return k->row.state == KEY_LIVE || k->row.state == KEY_RETIRING;
}

void key_describe(struct key *k, struct audit_row *row)
{
	text_copy(row->profile, sizeof(row->profile), k->row.profile);
	if (!k->row.hash[0])
		return;
	if (strcmp(k->tagged, k->row.hash) != 0) { /* upstream may have chosen another key */
		memcpy(k->tagged, k->row.hash, sizeof(k->tagged));
		keyring_tag(k->d->keyring, k->row.hash, k->tag);
	}
	memcpy(row->key_tag, k->tag, sizeof(k->tag));
}

struct audit_row *key_audit(struct change *c, struct key *k, const char *event, const char *why)
{
	struct audit_row *row = change_audit(c, event, "ok", NULL);
	char generation[40] = "";

	key_describe(k, row);
	if (k->row.generation)
		(void)snprintf(generation, sizeof(generation), "generation %llu, ",
			       (unsigned long long)k->row.generation);
	(void)snprintf(row->detail, sizeof(row->detail), "%s%s%s%s", generation, k->row.alias,
		       why ? ": " : "", why ? why : "");
	return row;
}
