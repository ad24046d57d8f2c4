/* One sweep: all pages first, then the deletions one after another. Owns its list of strays. */
#include "daemon/sweep.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/log.h"
#include "base/map.h"
#include "core/litellm.h"
#include "daemon/daemon.h"
#include "daemon/keys.h"
#include "daemon/pool.h"
#include "daemon/request.h"
#include "daemon/teams.h"
#include "daemon/turn.h"
#include "daemon/upstream.h"
#include "io/store_rows.h"

#define SWEEP_PAGES_MAX                                                                            \
	1000 /* 100,000 keys: an upstream that lies about its pages must not keep us busy for ever \
	      */

#define SWEEP_TOLERANCE_MS 5000

struct stray {
	char hash[SHA256_HEX_SIZE];
	char intent[ID_SIZE]; /* as its metadata says */
	char alias[ALIAS_MAX];
	unsigned seen; /* sweeps that saw it */
	bool now;      /* seen in this one */
	bool kept;     /* upstream would not delete it in this one */
	UT_hash_handle hh;
};

struct sweep {
	struct daemon *d;
	struct event *timer;
	struct upstream_call *call;
	struct stray *strays;
	int page;
	char first[SHA256_HEX_SIZE]; /* of the page before; "" */
	char deleting[SHA256_HEX_SIZE];
	bool running;
	struct sweep_found found;	/* by the one under way */
	struct request_list now, later; /* who asked for the one under way, and for the next */
};

static void sweep_next_page(struct sweep *s);

static void sweep_again_in(struct sweep *s, int64_t ms)
{
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	(void)evtimer_add(s->timer,
			  &tv); /* fails only without memory, when the process ends anyway */
}

static void sweep_gone(struct request *r)
{
	TAILQ_REMOVE((struct request_list *)r->waiting_for, r, of_waiters);
	request_free(r);
}

static void sweep_join(struct request_list *list, struct request *r)
{
	r->gone = sweep_gone;
	r->waiting_for = list;
	TAILQ_INSERT_TAIL(list, r, of_waiters);
}

/* The first of those who wait, to be answered by the caller. NULL: none is left. */
static struct request *sweep_leave(struct request_list *list)
{
	struct request *r = TAILQ_FIRST(list);

	if (!r)
		return NULL;
	TAILQ_REMOVE(list, r, of_waiters);
	r->gone = NULL;
	return r;
}

static void sweep_fail(struct request_list *list, enum proto_error code, int64_t retry_after_ms,
		       const char *message)
{
	struct request *r;

	while ((r = sweep_leave(list)))
		request_fail(r, code, retry_after_ms, "%s", message);
}

void sweep_fail_all(struct sweep *s, enum proto_error code, int64_t retry_after_ms,
		    const char *message)
{
	sweep_fail(&s->now, code, retry_after_ms, message);
	sweep_fail(&s->later, code, retry_after_ms, message);
}

/* `problem`: why it could not go on to its end; NULL: it did. */
static void sweep_end(struct sweep *s, const char *problem)
{
	const struct timing *t = &s->d->config->timing;
	struct request *r;

	s->running = false;
	if (problem)
		sweep_fail(&s->now, PROTO_UPSTREAM_UNAVAILABLE, t->upstream_recheck_ms, problem);
	while ((r = sweep_leave(&s->now)))
		op_sweep_reply(r, &s->found);
	sweep_again_in(s, TAILQ_EMPTY(&s->later) ? t->sweep_every_ms : 0);
}

static void sweep_on_timer(int fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	sweep_start(userdata);
}

struct sweep *sweep_new(struct daemon *d)
{
	struct sweep *s = xcalloc(1, sizeof(*s));

	s->d = d;
	TAILQ_INIT(&s->now);
	TAILQ_INIT(&s->later);
	s->timer = evtimer_new(d->base, sweep_on_timer, s);
	if (!s->timer)
		abort();
	return s;
}

void sweep_free(struct sweep *s)
{
	struct stray *x, *next;

	if (!s)
		return;
	if (s->call)
		upstream_cancel(s->call);
	HASH_ITER (hh, s->strays, x, next) {
		HASH_DEL(s->strays, x);
		free(x);
	}
	event_free(s->timer);
	free(s);
}

/* An intent whose key upstream chose has no hash yet, but its id is in the key's metadata. */
static bool sweep_is_known(const struct sweep *s, const char *hash, const char *intent_id)
{
	const struct key *intent = intent_id[0] ? keys_find(s->d->keys, intent_id) : NULL;

	return keys_find_hash(s->d->keys, hash) || (intent && intent->row.state == KEY_INTENT);
}

static void sweep_note(struct sweep *s, const struct litellm_key *found)
{
	struct stray *x;

	HASH_FIND_STR(s->strays, found->hash, x);
	if (!x) {
		x = xcalloc(1, sizeof(*x));
		memcpy(x->hash, found->hash, sizeof(x->hash));
		memcpy(x->intent, found->intent, sizeof(x->intent));
		HASH_ADD_STR(s->strays, hash, x);
	}
	memcpy(x->alias, found->alias, sizeof(x->alias));
	x->seen += !x->now;
	x->now = true;
}

/* What this sweep did not see again is gone. */
static void sweep_forget_unseen(struct sweep *s)
{
	struct stray *x, *next;

	HASH_ITER (hh, s->strays, x, next) {
		if (!x->now) {
			HASH_DEL(s->strays, x);
			free(x);
		}
	}
}

static void sweep_delete_next(struct sweep *s);

static const char *stray_name(const struct stray *x)
{
	return x && *x->alias ? x->alias : "(no name)";
}

/* What upstream has against this one need not hold for the others. It stands last from now on: the
 * next sweep comes to the others also where an answer ends a sweep. */
static void sweep_keep(struct sweep *s, struct stray *x, const struct litellm_answer *a)
{
	log_warning("sweep: a stray key could not be deleted (%s, %.8s): %s", stray_name(x),
		    s->deleting, a->message);
	if (x) {
		HASH_DEL(s->strays, x);
		HASH_ADD_STR(s->strays, hash, x);
		x->kept = true;
	}
	if (x && a->kind == LITELLM_REFUSED)
		sweep_delete_next(s);
	else
		sweep_end(s, a->message);
}

static void sweep_on_deleted(void *userdata, struct upstream_answer *a)
{
	struct sweep *s = userdata;
	struct audit_row *row;
	const char *alias;
	struct change *c;
	struct stray *x;

	s->call = NULL;
	HASH_FIND_STR(s->strays, s->deleting, x);
	if (a->litellm.kind != LITELLM_OK && a->litellm.kind != LITELLM_GONE) {
		sweep_keep(s, x, &a->litellm);
		return;
	}
	alias = stray_name(x);
	log_info("sweep: deleted a key upstream that no row knew (%s, %.8s)", alias, s->deleting);
	c = change_new(s->d->turn, NULL, NULL);
	row = change_audit(c, "sweep", "ok", NULL);
	keyring_tag(s->d->keyring, s->deleting, row->key_tag);
	(void)snprintf(row->detail, sizeof(row->detail),
		       "%s: a stray key, which no row knew, was deleted upstream", alias);
	change_vital(c); /* it is gone, whether or not there is room to say so */
	change_kept(c);
	change_submit(c);
	s->found.deleted++;
	if (x) {
		HASH_DEL(s->strays, x);
		free(x);
	}
	sweep_delete_next(s);
}

static void sweep_delete_next(struct sweep *s)
{
	struct stray *x, *next;

	HASH_ITER (hh, s->strays, x, next) {
		if (x->seen < 2 || x->kept || sweep_is_known(s, x->hash, x->intent))
			continue; /* an import may have made it ours since it was listed */
		memcpy(s->deleting, x->hash, sizeof(s->deleting));
		if (upstream_start(
			    s->d->upstream,
			    &(struct upstream_question){ .op = LITELLM_DELETE,
							 .text = litellm_delete_body(x->hash) },
			    sweep_on_deleted, s, &s->call) == 0)
			return;
		sweep_end(s, "upstream cannot be asked");
		return;
	}
	sweep_end(s, NULL);
}

/* Keys that upstream blocked or ends at another time than is written here are asked about. */
static void sweep_compare(struct sweep *s, const struct litellm_answer *a, int64_t offset_ms)
{
	for (size_t i = 0; i < a->n_keys; i++) {
		const struct litellm_key *found = &a->keys[i];
		struct key *k = keys_find_hash(s->d->keys, found->hash);
		int64_t expires = found->expires_at_ms ? found->expires_at_ms + offset_ms : 0;

		if (k)
			k->pooled.missed = false;
		if (!k || k->row.state != KEY_LIVE || k->call || k->storing)
			continue;
		if (!found->blocked && llabs(expires - k->row.expires_at_ms) < SWEEP_TOLERANCE_MS)
			continue;
		k->checked = false;
		key_drive(k);
	}
}

/* A page that begins as the one before it did: upstream ignores the number that was asked for. */
static bool sweep_repeats(struct sweep *s, const struct litellm_answer *a)
{
	char first[SHA256_HEX_SIZE] = "";
	bool same;

	if (a->n_keys > 0)
		memcpy(first, a->keys[0].hash, sizeof(first));
	same = strcmp(first, s->first) == 0;
	memcpy(s->first, first, sizeof(s->first));
	return same;
}

static void sweep_count_marked(struct sweep *s)
{
	const struct stray *x, *next;

	HASH_ITER (hh, s->strays, x, next)
		s->found.marked += x->seen == 1;
}

static void sweep_on_page(void *userdata, struct upstream_answer *a)
{
	struct sweep *s = userdata;

	s->call = NULL;
	if (a->litellm.kind != LITELLM_OK) {
		/* Half a list proves nothing about what it lacks: what was seen before stays
		 * counted as it was. */
		sweep_end(s, a->litellm.message);
		return;
	}
	sweep_compare(s, &a->litellm, a->clock_offset_ms);
	for (size_t i = 0; i < a->litellm.n_keys; i++) {
		const struct litellm_key *found = &a->litellm.keys[i];

		if (strcmp(found->user_id, s->d->user_id) != 0)
			continue;
		s->found.listed++;
		if (!sweep_is_known(s, found->hash, found->intent))
			sweep_note(s, found);
	}
	if (s->page < a->litellm.total_pages && s->page < SWEEP_PAGES_MAX &&
	    !sweep_repeats(s, &a->litellm)) {
		sweep_next_page(s);
		return;
	}
	sweep_forget_unseen(s);
	sweep_count_marked(s);
	pools_doubt(s->d);
	teams_check(s->d);
	sweep_delete_next(s);
}

static void sweep_next_page(struct sweep *s)
{
	s->page++;
	if (upstream_start(s->d->upstream,
			   &(struct upstream_question){
				   .op = LITELLM_LIST,
				   .text = litellm_list_path(s->d->user_id, NULL, s->page) },
			   sweep_on_page, s, &s->call) < 0)
		sweep_end(s, "upstream cannot be asked");
}

void sweep_start(struct sweep *s)
{
	struct stray *x, *next;
	struct request *r;

	if (!s->d->upstream || s->d->stopping || s->running)
		return;
	while ((r = sweep_leave(&s->later)))
		sweep_join(&s->now, r);
	s->running = true;
	s->found = (struct sweep_found){ 0 };
	HASH_ITER (hh, s->strays, x, next)
		x->now = x->kept = false;
	pools_expect(s->d);
	s->page = 0;
	s->first[0] = '\0';
	sweep_next_page(s);
}

void sweep_ask(struct sweep *s, struct request *r)
{
	sweep_join(&s->later, r);
	sweep_start(s);
}
