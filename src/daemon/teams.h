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
/* Asks again at the next need: a key of this profile was found dead. */
void teams_doubt(struct daemon *d, const struct profile *p);
