/*
 * Shared profiles: one key for all who may have it, replaced by make before break. The order of a
 * rotation: {intent, new name of the old key} in one commit, rename the old one by hash, mint under
 * the constant name, {live, retiring} in one commit. A crash between any two leaves rows from which
 * the next leader goes on.
 */
#include "daemon/shared.h"

#include <event2/event.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "core/alias.h"
#include "daemon/daemon.h"
#include "daemon/fail.h"
#include "daemon/key_work.h"
#include "daemon/keys.h"
#include "daemon/op.h"
#include "daemon/rotation.h"
#include "daemon/turn.h"
#include "daemon/watch.h"
#include "io/store.h"
#include "io/store_rows.h"

/* Failures that are farther apart than this many rechecks have nothing to do with each other. */
#define SHARED_CALM 100

struct shared_list {
	struct shared *first;
};

struct shared_list *shared_list_new(void)
{
	return xcalloc(1, sizeof(struct shared_list));
}

void shared_list_free(struct shared_list *list)
{
	struct shared *s, *following;

	if (!list)
		return;
	for (s = list->first; s; s = following) {
		following = s->following;
		import_free(s->import);
		event_free(s->timer);
		free(s);
	}
	free(list);
}

struct shared *shared_find(const struct daemon *d, const char *profile)
{
	for (struct shared *s = d->shared->first; s; s = s->following)
		if (strcmp(s->name, profile) == 0)
			return s;
	return NULL;
}

static void shared_on_timer(int fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	shared_drive(userdata);
}

void shared_rotate(struct shared *s)
{
	s->rotate_wanted = true;
	s->retry_at_ms = 0; /* a person asks: now */
	s->failures = 0;
	shared_drive(s);
}

void shared_stop(struct daemon *d)
{
	static const char again[] = "this broker is stopping; ask again";

	for (struct shared *s = d->shared->first; s; s = s->following) {
		/* whoever leads next finishes what is begun */
		op_rotate_fail_all(s, PROTO_NOT_LEADER, s->next ? -1 : 100,
				   s->next ? "this broker is stopping; the rotation is on record "
					     "and goes on when a broker is back"
					   : again);
		acquire_fail_all(&s->waiters, PROTO_NOT_LEADER, 100, again);
		if (s->import)
			import_abort(s->import, PROTO_NOT_LEADER, again);
	}
}

static struct shared *shared_new(struct daemon *d, const char *name)
{
	struct shared *s = xcalloc(1, sizeof(*s));

	s->d = d;
	(void)snprintf(s->name, sizeof(s->name), "%s", name);
	TAILQ_INIT(&s->waiters);
	TAILQ_INIT(&s->rotate_waiters);
	s->timer = evtimer_new(d->base, shared_on_timer, s);
	if (!s->timer)
		abort();
	s->following = d->shared->first;
	d->shared->first = s;
	return s;
}

static void shared_drive_in(struct shared *s, int64_t ms)
{
	int64_t wait = MIN_OF(MAX_OF(ms, 1), INT64_C(86400000));
	struct timeval tv = { .tv_sec = wait / 1000, .tv_usec = wait % 1000 * 1000 };

	(void)evtimer_add(s->timer,
			  &tv); /* fails only without memory, when the process ends anyway */
}

static const struct profile *shared_profile(const struct shared *s)
{
	const struct profile *p = config_profile(s->d->config, s->name);

	return p && p->mode == PROFILE_SHARED ? p : NULL;
}

int64_t shared_grace_ms(const struct key *k)
{
	const struct timing *t = &k->d->config->timing;

	/* Servers that never heard of this broker still have an imported key. */
	return k->row.source == KEY_IMPORTED ? MAX_OF(t->grace_ms, t->legacy_delete_ms)
					     : t->grace_ms;
}

/* Its profile is gone: nobody will be served any more. */
static void shared_close(struct shared *s)
{
	acquire_fail_all(&s->waiters, PROTO_UNKNOWN_PROFILE, -1,
			 "the profile is no longer configured");
	op_rotate_fail_all(s, PROTO_UNKNOWN_PROFILE, -1, "the profile is no longer configured");
}

void shared_configure(struct daemon *d)
{
	for (size_t i = 0; i < d->config->n_profiles; i++) {
		const struct profile *p = &d->config->profiles[i];

		if (p->mode == PROFILE_SHARED && !shared_find(d, p->name))
			(void)shared_new(d, p->name); /* the list has it */
	}
	for (struct shared *s = d->shared->first; s; s = s->following) {
		struct key *k = s->current;

		if (!shared_profile(s))
			shared_close(s);
		if (shared_profile(s)) {
			s->retry_at_ms = 0; /* what failed may have been put right by a reload */
			s->failures = 0;
			s->rejected = false;
			shared_drive(s);
		} else if (k) {
			s->current = NULL;
			key_retire(k, shared_grace_ms(k), "its profile is no longer configured");
		}
	}
}

void shared_old_alias(const struct key_row *row, char ret[ALIAS_MAX])
{
	char suffix[32];

	(void)snprintf(suffix, sizeof(suffix), "g%llu", (unsigned long long)row->generation);
	alias_append(row->alias, '.', suffix, ret, ALIAS_MAX);
}

static void shared_begun(void *userdata, int outcome)
{
	struct key *k = userdata;
	struct shared *s = k->shared;

	FAIL_POINT("rotate.after_intent");
	FAIL_POINT("mint.after_intent");
	s->storing = false;
	k->storing = false;
	if (outcome != 0) {
		k->row.state = KEY_DELETED; /* was never stored; goes with its pin */
		s->next = NULL;
		shared_drive_in(s, 1000);
		return;
	}
	if (s->current)
		key_want_rename(s->current);
	key_drive(k);
}

static void shared_intent_row(struct shared *s, const struct profile *p, struct key_row *row)
{
	const struct alias_values values = { .host = s->d->host, .profile = s->name };
	uint64_t last = 0;

	*row = (struct key_row){ .mode = PROFILE_SHARED, .state = KEY_INTENT, .uid = -1 };
	crypt_draw_id(row->id);
	memcpy(row->profile, s->name, sizeof(row->profile));
	alias_expand(p->alias, &values, row->alias, sizeof(row->alias));
	if (store_last_generation(s->d->store, s->name, &last) < 0)
		log_warning("profile %s: its last generation cannot be read; it counts from 1",
			    s->name);
	row->generation = last + 1;
	row->created_at_ms = row->changed_at_ms = clock_now().wall_ms;
	row->at_once = s->rotate_now;
	row->source = s->d->keys_forbidden ? KEY_SERVER_CHOSEN : KEY_MINTED;
	pool_settings(p, row->settings);
}

static void shared_begin(struct shared *s, const struct profile *p)
{
	struct key_row row, old;
	struct change *c;
	struct key *k;

	shared_intent_row(s, p, &row);
	k = key_add_intent(s->d, &row);
	k->shared = s;
	c = change_new(s->d->turn, shared_begun, k);
	change_key(c, k, KEY_SET_ALL, &k->row);
	change_key_secret(c, k->secret);
	if (s->current) {
		old = s->current->row;
		shared_old_alias(&s->current->row, old.alias);
		if (strcmp(s->current->row.alias, row.alias) == 0)
			change_key(c, s->current, KEY_SET_ALIAS, &old);
	}
	s->next = k;
	s->storing = true;
	k->storing = true;
	change_submit(c);
}

void shared_drive(struct shared *s)
{
	const struct profile *p = shared_profile(s);
	int64_t boot = clock_now().boot_ms;
	int64_t rotation;

	if (!p || s->storing || s->d->stopping || !s->d->upstream)
		return;
	if (s->next) {
		key_drive(s->next);
		return;
	}
	if (s->current && !s->rotate_wanted) {
		rotation = rotation_in_ms(s, p);
		if (rotation > 0) {
			if (rotation != INT64_MAX)
				shared_drive_in(s, rotation);
			key_drive(s->current);
			return;
		}
	}
	if (boot < s->retry_at_ms) {
		shared_drive_in(s, s->retry_at_ms - boot);
		return;
	}
	if (s->current && rotation_is_outdated(s->current, p))
		log_info(
			"profile %s: generation %llu was made by other settings; another takes its place",
			s->name, (unsigned long long)s->current->row.generation);
	shared_begin(s, p);
}

void shared_adopt(struct daemon *d, struct key *k)
{
	struct shared *s = shared_find(d, k->row.profile);

	if (!s)
		s = shared_new(d, k->row.profile); /* shared_configure() retires what is not
						      configured any more */
	k->shared = s;
	if (k->row.state == KEY_INTENT && (!s->next || s->next->row.generation < k->row.generation))
		s->next = k;
	if (s->next == k)
		s->rotate_now = k->row.at_once;
	if (k->row.state == KEY_LIVE &&
	    (!s->current || s->current->row.generation < k->row.generation))
		s->current = k;
}

void shared_serve(struct shared *s, struct key *k)
{
	if (!shared_profile(s)) { /* a reload took it away while this key was being made */
		s->current = NULL;
		shared_close(s);
		key_retire(k, shared_grace_ms(k), "its profile is no longer configured");
		return;
	}
	s->current = k;
	s->error[0] = '\0';
	s->rejected = false;
	s->retry_at_ms = 0;
	watch_rotated(s->d->watch, k);
	acquire_grant_all(&s->waiters, k);
	shared_drive(s);
}

static void shared_live(void *userdata, int outcome)
{
	struct key *k = userdata;
	struct shared *s = k->shared;
	struct key *old = s->current;
	char why[TURN_WHY_SIZE];

	k->storing = false;
	s->storing = false;
	if (outcome != 0) {
		acquire_fail_all(&s->waiters, PROTO_AUDIT_UNAVAILABLE, 1000,
				 turn_why(outcome, "the new key", why));
		key_drive_in(k, 1000); /* the mint is done: it only has to be written down */
		return;
	}
	s->next = NULL;
	log_info("profile %s: generation %llu is live (%s)", s->name,
		 (unsigned long long)k->row.generation, k->row.alias);
	s->rotate_wanted = false;
	op_rotate_reply_all(s, k, old);
	shared_serve(s, k);
	if (s->rotate_now)
		rotation_take_old(s);
	s->rotate_now = false;
	if (old)
		key_drive(old);
}

/* The members that upstream decided travel in `to`; the row itself takes them over when they are
 * committed. */
void shared_minted(struct shared *s, struct key *k)
{
	struct change *c;
	struct audit_row *a;
	struct key_row to = k->row, old;

	if (s->next != k) {
		key_abandon(k, "another key took its place");
		return;
	}
	c = change_new(s->d->turn, shared_live, k);
	a = key_audit(c, k, "mint", NULL);
	to.state = KEY_LIVE;
	to.changed_at_ms = a->wall_ms;
	change_key(c, k,
		   KEY_SET_STATE | KEY_SET_EXPIRY | KEY_SET_TEAM | KEY_SET_IDENTITY |
			   KEY_SET_DELETE_AT,
		   &to);
	change_key_secret(c, k->row.source == KEY_SERVER_CHOSEN ? k->secret : NULL);
	if (s->current) {
		(void)key_audit(c, k, "rotate", NULL);
		(void)key_audit(c, s->current, "retire", "a newer generation is live");
		old = s->current->row;
		old.state = KEY_RETIRING;
		old.changed_at_ms = a->wall_ms;
		old.delete_at_ms = a->wall_ms + shared_grace_ms(s->current);
		change_key(c, s->current, KEY_SET_STATE | KEY_SET_DELETE_AT, &old);
	}
	k->storing = true;
	s->storing = true;
	change_submit(c);
}

/* The pause before the next intent, doubling: each leaves a row, and nothing changes by itself. */
static void shared_back_off(struct shared *s)
{
	int64_t recheck = s->d->config->timing.upstream_recheck_ms;
	int64_t now = clock_now().boot_ms;
	int64_t pause;

	if (s->current && now - s->failed_at_ms > SHARED_CALM * recheck)
		s->failures = 0; /* a new trouble, not the old one */
	pause = recheck << MIN_OF(s->failures, 6U);
	s->failures++;
	s->failed_at_ms = now;
	s->retry_at_ms = s->failed_at_ms + pause;
	shared_drive_in(s, pause);
}

void shared_trouble(struct shared *s, bool rejected, const char *message)
{
	char text[640];

	(void)snprintf(s->error, sizeof(s->error), "%s", message);
	s->rejected = rejected;
	if (!rejected)
		return;
	s->error_code = PROTO_UPSTREAM_UNAVAILABLE;
	s->failed_at_ms = clock_now().boot_ms;
	s->retry_at_ms = s->failed_at_ms + s->d->config->timing.upstream_recheck_ms;
	(void)snprintf(text, sizeof(text), "not done yet: %s; it goes on by itself%s", message,
		       s->current ? ", the old key stays until then" : "");
	op_rotate_fail_all(s, s->error_code, s->d->config->timing.upstream_recheck_ms, text);
}

bool shared_wanted(struct shared *s)
{
	int64_t now = clock_now().boot_ms;

	if (s->current)
		return true;
	if (s->rejected && now < s->failed_at_ms + s->d->config->timing.upstream_recheck_ms)
		return false;
	if (s->next || now >= s->retry_at_ms)
		return true;
	if (now < s->failed_at_ms + s->d->config->timing.upstream_recheck_ms)
		return false;
	s->retry_at_ms = 0; /* somebody needs it, and it was not asked for just now */
	return true;
}

void shared_failed(struct shared *s, enum proto_error code, const char *message)
{
	char text[640];

	s->next = NULL;
	s->rotate_wanted = false;
	s->rotate_now = false;
	s->error_code = code;
	(void)snprintf(s->error, sizeof(s->error), "%s", message);
	(void)snprintf(text, sizeof(text), "no new key could be made%s: %s",
		       s->current ? ", the old one stays" : "", message);
	op_rotate_fail_all(s, code, -1, text);
	shared_back_off(s);
}

void shared_lost(struct shared *s)
{
	s->current = NULL;
	shared_drive(s);
}

void shared_mourn(struct shared *s)
{
	int64_t now = clock_now().boot_ms;

	/* An upstream whose keys die as soon as they are made is not to be kept busy making them.
	 */
	if (s->died_at_ms && now - s->died_at_ms < s->d->config->timing.upstream_recheck_ms) {
		s->error_code = PROTO_UPSTREAM_UNAVAILABLE;
		(void)snprintf(s->error, sizeof(s->error),
			       "keys die upstream as soon as they are made");
		shared_back_off(s);
	}
	s->died_at_ms = now;
	shared_lost(s);
}

void shared_forget(struct key *k)
{
	struct shared *s = k->shared;

	if (s && s->current == k)
		s->current = NULL;
	if (s && s->next == k)
		s->next = NULL;
}
