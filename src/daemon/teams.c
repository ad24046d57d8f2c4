/*
 * Teams. A team by id is the operator's: asked about, never made. A team by alias is looked for
 * (aliases are not unique upstream, and /team/info knows none), adopted if there is exactly one,
 * and else made with an id derived from the alias, so that any number of makers make the same one.
 * Limits are set on a team whose metadata has our install; of any other it is told how it differs.
 */
#include "daemon/teams.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/daemon.h"
#include "daemon/fail.h"
#include "daemon/keys.h"
#include "daemon/turn.h"
#include "daemon/upstream.h"
#include "io/store.h"

#define TEAM_DRIFT_MAX 768

struct team {
	struct team *following;
	struct daemon *d;
	char *wanted; /* "id:…" or "alias:…" */
	bool by_id;
	enum litellm_op op;   /* the call under way, or the last one */
	char id[TEAM_ID_MAX]; /* "" until known */
	char alias[ALIAS_MAX];
	char drift[TEAM_DRIFT_MAX];
	bool ours;
	enum team_state state;
	bool asked;
	int64_t at_ms; /* boot time of the last answer */
	char message[LITELLM_MESSAGE_MAX];
	struct upstream_call *call;
};

struct teams {
	struct daemon *d;
	struct team *first;
};

struct teams *teams_new(struct daemon *d)
{
	struct teams *t = xcalloc(1, sizeof(*t));

	t->d = d;
	return t;
}

void teams_free(struct teams *t)
{
	struct team *team, *following;

	if (!t)
		return;
	for (team = t->first; team; team = following) {
		following = team->following;
		if (team->call)
			upstream_cancel(team->call);
		free(team->wanted);
		free(team);
	}
	free(t);
}

static const char *team_name(const struct team *team)
{
	return strchr(team->wanted, ':') + 1;
}

/* The intents that waited for this answer go on; those that didn't look again and find nothing to
 * do. */
static void team_settle(struct team *team, enum team_state state, const char *message)
{
	struct key *k, *next;

	team->state = state;
	team->asked = true;
	team->at_ms = clock_now().boot_ms;
	(void)snprintf(team->message, sizeof(team->message), "%s", message);
	for (k = keys_first(team->d->keys); k; k = next) {
		next = keys_next(k);
		if (k->row.state == KEY_INTENT)
			key_drive(k);
	}
}

static void team_on_answer(void *userdata, struct upstream_answer *a);

static void team_ask(struct team *team, enum litellm_op op, char *text)
{
	if (!text)
		abort(); /* out of memory */
	team->state = TEAM_PENDING;
	if (upstream_start(team->d->upstream,
			   &(struct upstream_question){
				   .op = op, .text = text, .asked_alias = team_name(team) },
			   team_on_answer, team, &team->call) < 0)
		team_settle(team, TEAM_UNAVAILABLE, "upstream cannot be asked");
	team->op = op;
}

static bool team_is_of(const struct team *team, const struct profile *p)
{
	const char *name = team->by_id ? p->team_id : p->team_alias;

	return name && (team->by_id || !p->team_id) && p->mode != PROFILE_STATIC &&
	       strcmp(name, team_name(team)) == 0;
}

static bool team_has_limits(const struct profile *p)
{
	return p->team.max_budget >= 0 || p->team.rpm_limit >= 0 || p->team.tpm_limit >= 0 ||
	       p->team.budget_duration;
}

/* The first profile that names it and has limits for it; they all have the same. NULL: none has. */
static const struct profile *team_profile(const struct team *team)
{
	const struct config *c = team->d->config;

	for (size_t i = 0; i < c->n_profiles; i++)
		if (team_is_of(team, &c->profiles[i]) && team_has_limits(&c->profiles[i]))
			return &c->profiles[i];
	return NULL;
}

static const struct key_limits *team_limits(const struct team *team)
{
	const struct profile *p = team_profile(team);

	return p ? &p->team : NULL;
}

static void team_note(const struct team *team, const char *outcome, const char *detail)
{
	struct change *c = change_new(team->d->turn, NULL, NULL);
	struct audit_row *row = change_audit(c, "team", outcome, NULL);
	const struct profile *p = team_profile(team);

	text_copy(row->profile, sizeof(row->profile), p ? p->name : "");
	(void)snprintf(row->detail, sizeof(row->detail), "%.100s (%.60s)%s%s", team_name(team),
		       team->id, *detail ? ": " : "", detail);
	log_info("team %.100s (%.60s) was %s%s%s", team_name(team), team->id, outcome,
		 *detail ? "; found: " : "", detail);
	change_vital(c); /* it is so, whether or not there is room to say so */
	change_kept(c);
	change_submit(c);
}

/* Upstream describes it: sets what differs if it is ours, once. */
static void team_look(struct team *team, const struct litellm_team *found, bool may_set)
{
	const struct key_limits *limits = team_limits(team);
	bool differs = limits && litellm_team_differs(found, limits, team->drift, TEAM_DRIFT_MAX);

	team->ours = !team->by_id && strcmp(found->install, store_install(team->d->store)) == 0;
	text_copy(team->id, sizeof(team->id), found->id);
	text_copy(team->alias, sizeof(team->alias), found->alias);
	if (differs && team->ours && may_set)
		team_ask(team, LITELLM_TEAM_UPDATE, litellm_team_update_body(found->id, limits));
	else
		team_settle(team, TEAM_READY, "");
}

/* What an answer that isn't a team's means. */
static enum team_state team_state_of(enum litellm_kind kind)
{
	if (kind == LITELLM_UNAUTHORIZED)
		return TEAM_UNAUTHORIZED;
	return kind == LITELLM_UNAVAILABLE ? TEAM_UNAVAILABLE : TEAM_REFUSED;
}

/* The operator's own team: never made, only asked about. */
static void team_on_own(struct team *team, const struct upstream_answer *a)
{
	char message[LITELLM_MESSAGE_MAX];

	if (a->litellm.kind == LITELLM_OK) {
		team_look(team, &a->litellm.teams[0], false);
	} else if (a->litellm.kind == LITELLM_GONE) {
		(void)snprintf(
			message, sizeof(message),
			"upstream does not know the team %.128s (team_id, LITELLM_TEAM_ID); it is yours to make",
			team_name(team));
		team_settle(team, TEAM_REFUSED, message);
	} else {
		team_settle(team, team_state_of(a->litellm.kind), a->litellm.message);
	}
}

static void team_on_found(struct team *team, const struct upstream_answer *a)
{
	char id[TEAM_ID_MAX];

	if (a->litellm.n_teams == 1) {
		team_look(team, &a->litellm.teams[0], true);
	} else {
		litellm_team_id(team_name(team), id);
		team_ask(team, LITELLM_TEAM_NEW,
			 litellm_team_body(id, team_name(team), store_install(team->d->store),
					   team_limits(team)));
	}
}

/* It was made, just now or by somebody else at the same time. */
static void team_on_made(struct team *team, const struct upstream_answer *a)
{
	if (a->litellm.kind == LITELLM_OK) {
		text_copy(team->id, sizeof(team->id), a->litellm.teams[0].id);
		team_note(team, "made", "");
		team_look(team, &a->litellm.teams[0], false);
	} else if (a->litellm.kind == LITELLM_EXISTS) {
		litellm_team_id(team_name(team), team->id);
		team_ask(team, LITELLM_TEAM_INFO, litellm_team_info_path(team->id));
	} else {
		team_settle(team, TEAM_REFUSED, a->litellm.message);
	}
}

/* Keys can be made without its limits; `status` says that it has others. */
static void team_on_changed(struct team *team, const struct upstream_answer *a)
{
	size_t n = strlen(team->drift);

	if (a->litellm.kind == LITELLM_OK) {
		team_note(team, "changed", team->drift);
		team_look(team, &a->litellm.teams[0], false);
		return;
	}
	(void)snprintf(team->drift + n, TEAM_DRIFT_MAX - n, "; LiteLLM refuses the change: %s",
		       a->litellm.message);
	log_warning("team %s: %s", team_name(team), team->drift);
	team_settle(team, TEAM_READY, "");
}

static void team_on_answer(void *userdata, struct upstream_answer *a)
{
	struct team *team = userdata;
	enum litellm_kind kind = a->litellm.kind;

	team->call = NULL;
	if (team->op == LITELLM_TEAM_NEW)
		FAIL_POINT("team.after_new");
	if (team->by_id) {
		team_on_own(team, a);
	} else if (kind == LITELLM_UNAVAILABLE || kind == LITELLM_UNAUTHORIZED) {
		team_settle(team, team_state_of(kind), a->litellm.message);
	} else if (team->op == LITELLM_TEAM_NEW) {
		team_on_made(team, a);
	} else if (team->op == LITELLM_TEAM_UPDATE) {
		team_on_changed(team, a);
	} else if (kind == LITELLM_OK) {
		team_on_found(team, a);
	} else if (kind == LITELLM_GONE) {
		team_settle(team, TEAM_UNAVAILABLE, "the team was made and is not there");
	} else {
		team_settle(team, TEAM_REFUSED, a->litellm.message);
	}
}

static char *team_wanted(const struct profile *p)
{
	return p->team_id ? xasprintf("id:%s", p->team_id) : xasprintf("alias:%s", p->team_alias);
}

static struct team *team_get(struct daemon *d, const struct profile *p)
{
	_cleanup_(freep) char *wanted = team_wanted(p);
	struct team *team;

	for (team = d->teams->first; team; team = team->following)
		if (team_is_of(team, p))
			return team;
	team = xcalloc(1, sizeof(*team));
	team->d = d;
	team->wanted = TAKE(wanted);
	team->by_id = p->team_id != NULL;
	team->state = TEAM_UNAVAILABLE;
	team->following = d->teams->first;
	d->teams->first = team;
	return team;
}

/* A good answer holds as long as a sweep; a bad one is asked again soon. */
static bool team_is_fresh(const struct team *team)
{
	const struct timing *t = &team->d->config->timing;
	int64_t keep = team->state == TEAM_READY ? t->sweep_every_ms : t->upstream_recheck_ms / 8;

	return team->asked && clock_now().boot_ms - team->at_ms < keep;
}

static void team_start(struct team *team)
{
	const char *name = team_name(team);

	if (team->call)
		return;
	if (team->by_id)
		team_ask(team, LITELLM_TEAM_INFO, litellm_team_info_path(name));
	else
		team_ask(team, LITELLM_TEAM_FIND, litellm_team_find_path(name, 1));
}

enum team_state teams_need(struct daemon *d, const struct profile *p, char ret_id[TEAM_ID_MAX],
			   char ret_message[LITELLM_MESSAGE_MAX])
{
	struct team *team;

	ret_id[0] = '\0';
	if (!p->team_id && !p->team_alias)
		return TEAM_READY;
	team = team_get(d, p);
	if (!team_is_fresh(team))
		team_start(team);
	memcpy(ret_id, team->id, TEAM_ID_MAX);
	memcpy(ret_message, team->message, LITELLM_MESSAGE_MAX);
	return team->state;
}

void teams_saw(struct daemon *d, const struct litellm_team *found)
{
	for (struct team *team = d->teams->first; team; team = team->following)
		if (!team->call && team->state == TEAM_READY && strcmp(team->id, found->id) == 0)
			team_look(team, found, !team->by_id);
}

void teams_doubt(struct daemon *d, const struct profile *p)
{
	if (p->team_id || p->team_alias)
		team_get(d, p)->asked = false;
}

/* Mints go on with a team that was ready, while it is asked about again. */
static void team_again(struct team *team)
{
	bool ready = team->state == TEAM_READY;

	team_start(team);
	if (ready && team->call)
		team->state = TEAM_READY;
}

void teams_check(struct daemon *d)
{
	if (!d->upstream || d->stopping)
		return;
	for (size_t i = 0; i < d->config->n_profiles; i++) {
		const struct profile *p = &d->config->profiles[i];

		if (p->mode != PROFILE_STATIC && team_has_limits(p))
			team_again(team_get(d, p));
	}
}

bool teams_view(const struct daemon *d, const struct profile *p, struct team_view *ret)
{
	for (const struct team *team = d->teams->first; team; team = team->following)
		if (team_is_of(team, p) && team->id[0]) {
			*ret = (struct team_view){ team->id, team->alias,
						   team_limits(team) ? team->drift : "",
						   team->ours };
			return true;
		}
	return false;
}
