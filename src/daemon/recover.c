/* From rows to objects. A row says by itself what is to be done with it, so there is no order to
 * keep. */
#include "daemon/recover.h"

#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "daemon/daemon.h"
#include "daemon/key_work.h"
#include "daemon/keys.h"
#include "daemon/leases.h"
#include "daemon/rotation.h"
#include "daemon/shared.h"
#include "daemon/turn.h"
#include "io/process.h"
#include "io/store_rows.h"

/* Burned, or kept for longer than its grace: for a POST that had no answer. */
static bool recover_may_be_late(const struct daemon *d, const struct key_row *row)
{
	int64_t now = clock_now().wall_ms;

	if (row->state != KEY_BURNED && now >= row->delete_at_ms && now >= row->changed_at_ms)
		return false; /* long past, unless the clock was set forward */
	if (row->state == KEY_RETIRING)
		return row->delete_at_ms > row->changed_at_ms + d->config->timing.grace_ms;
	return row->state == KEY_BURNED || row->delete_at_ms > 0;
}

/* A retiring key's row has the end of its grace there; what we POSTed for it was when it was made.
 */
static int64_t recover_late_until_ms(const struct daemon *d, const struct key_row *row)
{
	if (row->state != KEY_RETIRING || recover_may_be_late(d, row))
		return row->delete_at_ms;
	return MIN_OF(row->delete_at_ms, row->created_at_ms + d->config->timing.burn_delete_ms);
}

static int recover_key(const struct key_row *row, void *userdata)
{
	struct daemon *d = userdata;
	struct key *k = key_add(d, row);

	k->dead = row->dead;
	k->trusted = d->took_over;
	k->checked = row->mode == PROFILE_DEDICATED || row->state != KEY_LIVE;
	if (row->state == KEY_INTENT) {
		k->sent = true; /* who knows what the one before has sent, and when */
		key_expect_late(k);
	} else if (row->source == KEY_MINTED || row->source == KEY_SERVER_CHOSEN) {
		/* only what we POSTed can come back */
		k->late_until_ms = recover_late_until_ms(d, row);
		/* the wall clock may have been set since: the whole time again */
		if (recover_may_be_late(d, row))
			key_hold_late(k);
	}
	if (row->mode == PROFILE_SHARED && row->source != KEY_LEGACY)
		shared_adopt(d, k);
	if (key_row_is_pooled(row))
		pool_adopt(k);
	return 0;
}

/* Its pid says something here: it was seen, and by a broker of our pid namespace. */
static bool recover_knows(const struct daemon *d, const struct lease_row *row)
{
	return row->holder_pid != 0 && (row->pidns == 0 || row->pidns == d->self.pidns);
}

/* The process that holds it, or held its connection: same boot, pid and start time. */
static int recover_pidfd(const struct daemon *d, const struct lease_row *row)
{
	int fd;

	if (strcmp(row->boot_id, d->boot_id) != 0)
		return -ESRCH;
	if (!recover_knows(d, row))
		return -EACCES;
	fd = process_open_same(row->holder_pid, row->holder_start);
	if (fd < 0 && fd != -ESRCH && row->bind == LEASE_PROCESS)
		log_warning("lease %s: process %d cannot be looked at (%s); the lease ends",
			    row->id, (int)row->holder_pid, strerrordesc_np(-fd));
	return fd;
}

/* Of another boot, or without a deadline in its own time: from the wall clock, for all leaders of
 * this boot. */
static void recover_deadline(struct lease *l)
{
	struct instant now = clock_now();
	struct lease_row to = { .ends_at_ms = l->row.ends_at_ms };
	struct change *c;

	if (l->row.ends_boot_ms && strcmp(l->row.boot_id, l->d->boot_id) == 0)
		return;
	to.ends_boot_ms = MAX_OF(now.boot_ms + to.ends_at_ms - now.wall_ms, 1);
	memcpy(to.boot_id, l->d->boot_id, sizeof(to.boot_id));
	l->row.ends_boot_ms = to.ends_boot_ms;
	c = change_new(l->d->turn, NULL, NULL);
	change_lease(c, l, LEASE_SET_ENDS_AT, &to);
	change_submit(c);
}

/* A process lease goes on if its process does. Who has a connection lease, or comes from a foreign
 * pid namespace, has to say that it is still there. False: it is over. */
static bool recover_hold(struct lease *l)
{
	_cleanup_(fd_close) int pidfd = -1;

	if (l->row.bind == LEASE_TTL) {
		recover_deadline(l);
		return lease_begin(l, -1) == 0;
	}
	pidfd = recover_pidfd(l->d, &l->row);
	if (l->row.bind == LEASE_PROCESS && recover_knows(l->d, &l->row))
		return lease_begin(l, pidfd) == 0;
	lease_await(l, pidfd);
	return pidfd != -ESRCH;
}

/* What it has now is written down with the first turn: its row may be asked who had a key. */
static void recover_move_lease(struct lease *l)
{
	struct change *c = change_new(l->d->turn, NULL, NULL);
	struct lease_row to = { 0 };

	memcpy(to.key_id, l->key->row.id, sizeof(to.key_id));
	change_lease(c, l, LEASE_SET_KEY, &to);
	change_submit(c);
}

static int recover_lease(const struct lease_row *row, void *userdata)
{
	struct daemon *d = userdata;
	struct key *k = row->key_id[0] ? keys_find(d->keys, row->key_id) : NULL;
	struct shared *s = row->refreshable ? shared_find(d, row->profile) : NULL;
	struct lease *l;

	/* Its generation is gone; a refreshable lease goes on with the present one. */
	if (!k && row->key_id[0] && s)
		k = s->current;
	l = lease_new(d, row, k);
	l->acked = 0; /* acknowledgements are in memory only: it may use any older key */
	if (!recover_hold(l))
		lease_end(l, LEASE_RELEASED, "release", NULL, NULL, NULL);
	else if (row->key_id[0] && !k)
		lease_end(l, LEASE_REVOKED, "revoke", NULL, NULL, NULL);
	else if (k && strcmp(k->row.id, row->key_id) != 0)
		recover_move_lease(l);
	return 0;
}

/* Keys that lost their reason to live while nobody led. */
static void recover_retire_orphans(struct daemon *d)
{
	struct key *k, *next;

	for (k = keys_first(d->keys); k; k = next) {
		next = keys_next(k);
		if (k->row.state != KEY_LIVE)
			continue;
		if (k->row.mode == PROFILE_DEDICATED && k->n_leases == 0 && !k->pooled.pool)
			key_retire(k, 0, "its holder has gone");
		else if (k->shared && k->shared->current != k)
			key_retire(k, shared_grace_ms(k), "a newer generation is live");
	}
}

/*
 * A rotation was under way: whether the old key has its new name is not known, so it gets it again.
 * An intent that an imported key had replaced is given up, as it was before.
 */
static void recover_intents(struct daemon *d)
{
	for (struct key *k = keys_first(d->keys); k; k = keys_next(k)) {
		struct shared *s = k->shared;

		if (!s || k->row.state != KEY_INTENT)
			continue;
		if (s->next == k && s->current && k->row.generation > s->current->row.generation) {
			key_want_rename(s->current);
		} else if (s->next != k || s->current) {
			s->next = s->next == k ? NULL : s->next;
			k->shared = NULL;
			key_abandon(k, "an imported key took its place");
		}
	}
}

/* An import's renamings may not have come through, and no row says so: they change nothing twice.
 */
static void recover_names(struct daemon *d)
{
	for (struct key *k = keys_first(d->keys); k; k = keys_next(k)) {
		const struct key *current = k->shared ? k->shared->current : NULL;
		bool named = k->row.state == KEY_LIVE || k->row.state == KEY_RETIRING;

		if (named && current && current->row.source == KEY_IMPORTED)
			key_want_rename(k);
	}
}

int recover(struct daemon *d)
{
	int r = store_each_key(d->store, false, recover_key, d);

	r = r < 0 ? r : store_each_lease(d->store, recover_lease, d);
	if (r < 0)
		return r;
	recover_retire_orphans(d);
	recover_intents(d);
	recover_names(d);
	return 0;
}

/* Who led before may have come no further than the new generation. */
static void recover_at_once(struct daemon *d)
{
	for (struct key *k = keys_first(d->keys); k; k = keys_next(k))
		if (k->row.at_once && k->shared && k->shared->current == k)
			rotation_take_old(k->shared);
}

void recover_go(struct daemon *d)
{
	struct key *k, *next;

	for (k = keys_first(d->keys); k; k = next) {
		next = keys_next(k);
		key_drive(k);
	}
	recover_at_once(d);
	shared_configure(d);
	pools_configure(d);
}
