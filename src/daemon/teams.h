/* The teams upstream that our keys belong to: found, made or adopted before a key is minted. */
#pragma once

#include <stdbool.h>

#include "core/config.h"
#include "core/litellm.h"

struct daemon;
struct teams;

enum team_state {
	TEAM_READY,	   /* `ret_id` is set ("" for a profile without a team) */
	TEAM_PENDING,	   /* being asked: all intents are driven again when that is over */
	TEAM_REFUSED,	   /* cannot be had as configured: `ret_message` */
	TEAM_UNAVAILABLE,  /* upstream cannot be asked now: `ret_message` */
	TEAM_UNAUTHORIZED, /* upstream rejects the master key: `ret_message` */
};

struct teams *teams_new(struct daemon *d);
void teams_free(struct teams *t);
DEFINE_CLEANUP(struct teams, teams)
enum team_state teams_need(struct daemon *d, const struct profile *p, char ret_id[TEAM_ID_MAX],
			   char ret_message[LITELLM_MESSAGE_MAX]);
/* Follows the configuration: asks about each team that has limits in it, sets them on those that
 * this broker made, and notes how the others differ. Also once a sweep. */
void teams_check(struct daemon *d);
struct team_view {
	const char *id, *alias; /* "" */
	const char *drift;	/* how its limits differ from the configuration's; "": they don't */
	bool ours;		/* made by this install */
};
/* For `status`. False: the profile has no team, or upstream was not asked about it yet. */
bool teams_view(const struct daemon *d, const struct profile *p, struct team_view *ret);
/* Upstream has just described a team to somebody else: how it differs is as of now. */
void teams_saw(struct daemon *d, const struct litellm_team *found);
/* Asks again at the next need: a key of this profile was found dead. */
void teams_doubt(struct daemon *d, const struct profile *p);
