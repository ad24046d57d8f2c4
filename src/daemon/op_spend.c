/*
 * All pages of our keys, then each team of the configuration; one reading at a time, which answers
 * all who asked meanwhile, and is kept for their next pages. It is owned by the daemon.
 */
#include "daemon/op_spend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "daemon/daemon.h"
#include "daemon/keys.h"
#include "daemon/op.h"
#include "daemon/op_map.h"
#include "daemon/op_rows.h"
#include "daemon/teams.h"
#include "daemon/upstream.h"

#define SPEND_TOP 50	    /* keys that are named: those that spent most */
#define SPEND_PAGES 1000    /* as the sweep */
#define SPEND_KEPT_MS 60000 /* a reading, for who asks for its next page */

struct spend_profile {
	char name[PROFILE_NAME_MAX]; /* "": keys that no row knows */
	int64_t keys, micros;
};

struct spend_key {
	char profile[PROFILE_NAME_MAX], alias[ALIAS_MAX], hash[9];
	int64_t micros, budget;
};

struct spend_team {
	enum litellm_op op;
	char *path, *alias; /* owned */
	bool known;
	struct litellm_team found;
};

struct spend {
	struct daemon *d;
	struct request_list waiters;
	struct upstream_call *call;
	int page;
	struct spend_profile *profiles;
	size_t n_profiles;
	struct spend_key top[SPEND_TOP]; /* what spent more comes first */
	size_t n_top;
	struct spend_team *teams;
	size_t n_teams, team; /* `team`: the one that is asked about */
	int64_t read_boot_ms; /* when all was read, and who asked was answered; 0: not yet */
};

struct spend_params {
	int64_t after, limit;
};

#define SPEND_PARAMS_DEFAULT             \
	{                                \
		.limit = OP_LIST_DEFAULT \
	}

static const struct op_param spend_params[] = {
	{ "after", OP_INT, false, offsetof(struct spend_params, after), 0, INT32_MAX },
	{ "limit", OP_INT, false, offsetof(struct spend_params, limit), 1, OP_LIST_MAX },
};

static void spend_team_deinit(struct spend_team *t)
{
	free(t->path);
	free(t->alias);
}

static void spend_free(struct spend *s)
{
	if (s->call)
		upstream_cancel(s->call);
	for (size_t i = 0; i < s->n_teams; i++)
		spend_team_deinit(&s->teams[i]);
	free(s->teams);
	free(s->profiles);
	s->d->spend = NULL;
	free(s);
}

/* A request whose peer has gone stays: its answer goes nowhere. */
static struct request *spend_leave(struct spend *s)
{
	struct request *r = TAILQ_FIRST(&s->waiters);

	if (r)
		TAILQ_REMOVE(&s->waiters, r, of_waiters);
	return r;
}

static void spend_fail(struct spend *s, enum proto_error code, int64_t retry_after_ms,
		       const char *message)
{
	struct request *r;

	while ((r = spend_leave(s)))
		request_fail(r, code, retry_after_ms, "%s", message);
	spend_free(s);
}

void spend_stop(struct daemon *d)
{
	if (d->spend)
		spend_fail(d->spend, PROTO_NOT_LEADER, 100, "this broker is stopping; ask again");
}

/* --- the answer --- */

static void spend_pack_budget(struct op_map *m, int64_t budget)
{
	if (budget >= 0)
		op_map_int(m, "max_budget_micros", budget);
}

static void spend_pack_profile(const struct spend *s, size_t i, struct op_map *m)
{
	const struct spend_profile *p = &s->profiles[i];

	op_map_text(m, "profile", p->name);
	op_map_int(m, "keys", p->keys);
	op_map_int(m, "spend_micros", p->micros);
}

static void spend_pack_key(const struct spend *s, size_t i, struct op_map *m)
{
	const struct spend_key *k = &s->top[i];

	op_map_text(m, "profile", k->profile);
	op_map_text(m, "alias", k->alias);
	op_map_text(m, "key_hash", k->hash);
	op_map_int(m, "spend_micros", k->micros);
	spend_pack_budget(m, k->budget);
}

static void spend_pack_team(const struct spend *s, size_t i, struct op_map *m)
{
	const struct litellm_team *t = &s->teams[i].found;

	op_map_text(m, "id", t->id);
	op_map_text(m, "alias", t->alias);
	op_map_int(m, "spend_micros", t->spend_micros);
	if (t->max_budget >= 0)
		spend_pack_budget(m, litellm_micros(t->max_budget));
	op_map_text(m, "budget_duration", t->budget_duration);
}

struct spend_list {
	const char *name;
	size_t n;
	void (*pack)(const struct spend *s, size_t i, struct op_map *m);
};

/* Adds the rows behind the first `skip`, at most `limit` of them. How many. */
static size_t spend_pack_page(const struct spend *s, struct op_map *m,
			      const struct spend_list *list, size_t skip, size_t limit)
{
	struct op_rows rows;

	op_rows_begin(&rows, m);
	for (size_t i = skip; i < list->n && rows.n < limit; i++) {
		struct op_map row = { 0 };

		list->pack(s, i, &row);
		if (!op_rows_add(&rows, &row))
			break;
	}
	op_rows_end(&rows, m, list->name);
	return rows.n;
}

/* The teams and then the profiles are one list, in pages; the keys come with the first. */
static void spend_answer(const struct spend *s, struct request *r)
{
	const struct spend_list keys = { "keys", s->n_top, spend_pack_key },
				teams = { "teams", s->n_teams, spend_pack_team },
				profiles = { "profiles", s->n_profiles, spend_pack_profile };
	struct spend_params p = SPEND_PARAMS_DEFAULT;
	struct op_map m = { 0 };
	size_t at, n;

	if (!op_read(r, spend_params, ARRAY_SIZE(spend_params), &p))
		return;
	at = (size_t)p.after;
	if (at == 0)
		(void)spend_pack_page(s, &m, &keys, 0, SIZE_MAX); /* fewer than fit */
	n = spend_pack_page(s, &m, &teams, at, (size_t)p.limit);
	at += n;
	n = at < teams.n ? 0 : (size_t)p.limit - n;
	at += spend_pack_page(s, &m, &profiles, at - MIN_OF(at, teams.n), n);
	if (at < teams.n + profiles.n)
		op_map_int(&m, "next", (int64_t)at);
	request_send(r, op_map_end(&m, request_reply(r)));
}

static int spend_compare_teams(const void *a, const void *b)
{
	return strcmp(((const struct spend_team *)a)->found.id,
		      ((const struct spend_team *)b)->found.id);
}

static int spend_compare_profiles(const void *a, const void *b)
{
	return strcmp(((const struct spend_profile *)a)->name,
		      ((const struct spend_profile *)b)->name);
}

/* Sorted, so that pages of two readings go together. Teams that upstream does not know go. */
static void spend_done(struct spend *s)
{
	struct request *r;
	size_t n = 0;

	for (size_t i = 0; i < s->n_teams; i++) {
		if (s->teams[i].known)
			s->teams[n++] = s->teams[i];
		else
			spend_team_deinit(&s->teams[i]);
	}
	s->n_teams = n;
	if (n > 0)
		qsort(s->teams, n, sizeof(*s->teams), spend_compare_teams);
	if (s->n_profiles > 0)
		qsort(s->profiles, s->n_profiles, sizeof(*s->profiles), spend_compare_profiles);
	s->read_boot_ms = clock_now().boot_ms;
	while ((r = spend_leave(s)))
		spend_answer(s, r);
}

/* --- the reading --- */

static void spend_add(int64_t *sum, int64_t micros)
{
	if (__builtin_add_overflow(*sum, micros, sum))
		*sum = INT64_MAX;
}

static void spend_count(struct spend *s, const char *profile, int64_t micros)
{
	struct spend_profile *p;
	size_t i = 0;

	while (i < s->n_profiles && strcmp(s->profiles[i].name, profile) != 0)
		i++;
	if (i == s->n_profiles) {
		s->profiles = xrealloc(s->profiles, ++s->n_profiles, sizeof(*s->profiles));
		s->profiles[i] = (struct spend_profile){ 0 };
		text_copy(s->profiles[i].name, sizeof(s->profiles[i].name), profile);
	}
	p = &s->profiles[i];
	p->keys++;
	spend_add(&p->micros, micros);
}

/* Keeps those that spent most, in order. */
static void spend_rank(struct spend *s, const char *profile, const struct litellm_key *found)
{
	size_t i = s->n_top;

	if (i == SPEND_TOP && s->top[i - 1].micros >= found->spend_micros)
		return;
	s->n_top += i < SPEND_TOP;
	for (i = s->n_top - 1; i > 0 && s->top[i - 1].micros < found->spend_micros; i--)
		s->top[i] = s->top[i - 1];
	s->top[i] = (struct spend_key){ .micros = found->spend_micros,
					.budget = found->max_budget_micros };
	text_copy(s->top[i].profile, sizeof(s->top[i].profile), profile);
	text_copy(s->top[i].alias, sizeof(s->top[i].alias), found->alias);
	op_short_hash(found->hash, s->top[i].hash);
}

static void spend_next(struct spend *s);

static bool spend_failed(struct spend *s, const struct upstream_answer *a)
{
	char message[LITELLM_MESSAGE_MAX + 64];

	if (a->litellm.kind == LITELLM_OK)
		return false;
	(void)snprintf(message, sizeof(message), "LiteLLM does not tell what was spent: %s",
		       a->litellm.message);
	spend_fail(s,
		   a->litellm.kind == LITELLM_REFUSED ? PROTO_UPSTREAM_REFUSED
						      : PROTO_UPSTREAM_UNAVAILABLE,
		   s->d->config->timing.upstream_recheck_ms, message);
	return true;
}

static void spend_on_page(void *userdata, struct upstream_answer *a)
{
	struct spend *s = userdata;

	s->call = NULL;
	if (spend_failed(s, a))
		return;
	for (size_t i = 0; i < a->litellm.n_keys; i++) {
		const struct litellm_key *found = &a->litellm.keys[i];
		const struct key *k = keys_find_hash(s->d->keys, found->hash);

		if (strcmp(found->user_id, s->d->user_id) != 0)
			continue;
		spend_count(s, k ? k->row.profile : "", found->spend_micros);
		spend_rank(s, k ? k->row.profile : "", found);
	}
	s->page = s->page < a->litellm.total_pages && s->page < SPEND_PAGES ? s->page + 1 : 0;
	spend_next(s);
}

/* One that is not there, or that several might be, spent nothing that could be told. */
static void spend_on_team(void *userdata, struct upstream_answer *a)
{
	struct spend *s = userdata;
	struct spend_team *t = &s->teams[s->team++];
	bool none = a->litellm.kind == LITELLM_GONE || a->litellm.kind == LITELLM_REFUSED;

	s->call = NULL;
	if (!none && spend_failed(s, a))
		return;
	t->known = !none && a->litellm.n_teams == 1;
	if (t->known) {
		t->found = a->litellm.teams[0];
		teams_saw(s->d, &t->found);
	}
	spend_next(s);
}

static void spend_next(struct spend *s)
{
	/* a person waits: what hangs is not asked again */
	struct upstream_question q = { .op = LITELLM_LIST,
				       .deadline_boot_ms =
					       clock_now().boot_ms +
					       s->d->config->timing.upstream_timeout_ms / 2 };
	upstream_done_fn done = spend_on_page;

	if (s->page == 0 && s->team == s->n_teams) {
		spend_done(s);
		return;
	}
	if (s->page > 0) {
		q.text = litellm_list_path(s->d->user_id, NULL, s->page);
	} else {
		q.op = s->teams[s->team].op;
		q.text = xstrdup(s->teams[s->team].path);
		q.asked_alias = s->teams[s->team].alias;
		done = spend_on_team;
	}
	if (upstream_start(s->d->upstream, &q, done, s, &s->call) < 0)
		spend_fail(s, PROTO_UPSTREAM_UNAVAILABLE, 1000, "upstream cannot be asked");
}

/* Each team of the configuration once; by its id where that is known. */
static void spend_add_team(struct spend *s, const struct profile *p)
{
	struct team_view seen = { .id = p->team_id };
	struct spend_team t = { .op = LITELLM_TEAM_INFO };

	if (p->mode == PROFILE_STATIC || (!p->team_id && !p->team_alias))
		return;
	if (p->team_id || teams_view(s->d, p, &seen)) {
		t.path = litellm_team_info_path(seen.id);
	} else {
		t.op = LITELLM_TEAM_FIND;
		t.path = litellm_team_find_path(p->team_alias, 1);
		t.alias = xstrdup(p->team_alias);
	}
	for (size_t i = 0; i < s->n_teams; i++)
		if (strcmp(s->teams[i].path, t.path) == 0) {
			spend_team_deinit(&t);
			return;
		}
	s->teams = xrealloc(s->teams, s->n_teams + 1, sizeof(*s->teams));
	s->teams[s->n_teams++] = t;
}

static struct spend *spend_new(struct daemon *d)
{
	struct spend *s = xcalloc(1, sizeof(*s));

	s->d = d;
	s->page = 1;
	TAILQ_INIT(&s->waiters);
	for (size_t i = 0; i < d->config->n_profiles; i++)
		spend_add_team(s, &d->config->profiles[i]);
	d->spend = s;
	return s;
}

void op_spend(struct daemon *d, struct request *r)
{
	struct spend_params p = SPEND_PARAMS_DEFAULT;
	int64_t now = clock_now().boot_ms;

	if (!op_read(r, spend_params, ARRAY_SIZE(spend_params), &p))
		return;
	if (!d->upstream) {
		request_fail(r, PROTO_UPSTREAM_UNAVAILABLE, -1,
			     "no LiteLLM is configured: nothing is counted");
		return;
	}
	if (d->spend && d->spend->read_boot_ms &&
	    (p.after == 0 || now - d->spend->read_boot_ms > SPEND_KEPT_MS))
		spend_free(d->spend);
	if (d->spend && d->spend->read_boot_ms) {
		spend_answer(d->spend, r);
		return;
	}
	bool first = !d->spend;
	struct spend *s = first ? spend_new(d) : d->spend;

	TAILQ_INSERT_TAIL(&s->waiters, r, of_waiters);
	if (first)
		spend_next(s);
}
