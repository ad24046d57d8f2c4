/*
 * Teams. A team by id is the operator's: asked about, never made. A team by alias is looked for
 * (aliases are not unique upstream, and /team/info knows none), adopted if there is exactly one,
 * and else made with an id derived from the alias, so that any number of makers make the same one.
 */
#include "daemon/teams.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "daemon/daemon.h"
#include "daemon/fail.h"
#include "daemon/keys.h"
#include "daemon/upstream.h"

struct team {
	struct team *following;
	struct daemon *d;
	char *wanted; /* "id:…" or "alias:…" */
	bool by_id;
	enum litellm_op op;   /* the call under way, or the last one */
	char id[TEAM_ID_MAX]; /* "" until known */
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

static void team_adopt(struct team *team, const char *id)
{
	(void)snprintf(team->id, sizeof(team->id), "%s", id);
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
		team_adopt(team, team_name(team));
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
		team_adopt(team, a->litellm.teams[0].id);
	} else {
		litellm_team_id(team_name(team), id);
		team_ask(team, LITELLM_TEAM_NEW, litellm_team_body(id, team_name(team)));
	}
}

static void team_on_answer(void *userdata, struct upstream_answer *a)
{
	struct team *team = userdata;
	char id[TEAM_ID_MAX];

	team->call = NULL;
	if (team->op == LITELLM_TEAM_NEW)
		FAIL_POINT("team.after_new");
	if (team->by_id) {
		team_on_own(team, a);
	} else if (a->litellm.kind == LITELLM_UNAVAILABLE ||
		   a->litellm.kind == LITELLM_UNAUTHORIZED) {
		team_settle(team, team_state_of(a->litellm.kind), a->litellm.message);
	} else if (team->op == LITELLM_TEAM_FIND && a->litellm.kind == LITELLM_OK) {
		team_on_found(team, a);
	} else if (a->litellm.kind == LITELLM_OK || a->litellm.kind == LITELLM_EXISTS) {
		litellm_team_id(team_name(team), id);
		log_info("team %s is %s", team_name(team), id);
		team_adopt(team, id);
	} else {
		team_settle(team, TEAM_REFUSED, a->litellm.message);
	}
}

static struct team *team_get(struct daemon *d, const struct profile *p)
{
	_cleanup_(freep) char *wanted =
		p->team_id ? xasprintf("id:%s", p->team_id) : xasprintf("alias:%s", p->team_alias);
	struct team *team;

	for (team = d->teams->first; team; team = team->following)
		if (strcmp(team->wanted, wanted) == 0)
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

enum team_state teams_need(struct daemon *d, const struct profile *p, char ret_id[TEAM_ID_MAX],
			   char ret_message[LITELLM_MESSAGE_MAX])
{
	struct team *team;

	ret_id[0] = '\0';
	if (!p->team_id && !p->team_alias)
		return TEAM_READY;
	team = team_get(d, p);
	if (!team->call && !team_is_fresh(team)) {
		if (team->by_id)
			team_ask(team, LITELLM_TEAM_INFO, litellm_team_info_path(p->team_id));
		else
			team_ask(team, LITELLM_TEAM_FIND, litellm_team_find_path(p->team_alias, 1));
	}
	memcpy(ret_id, team->id, TEAM_ID_MAX);
	memcpy(ret_message, team->message, LITELLM_MESSAGE_MAX);
	return team->state;
}

void teams_doubt(struct daemon *d, const struct profile *p)
{
	if (p->team_id || p->team_alias)
		team_get(d, p)->asked = false;
}
