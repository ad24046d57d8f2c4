/*
 * One upstream virtual key as the store holds it. `intent -> live -> retiring -> deleted`, or
 * `intent -> burned -> deleted`; key_may_change() is the whole of the state machine.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/crypt.h"
#include "core/config.h"

#define REQUEST_ID_MAX 65 /* bytes with the NUL */
#define TEAM_ID_MAX 129
#define KEY_SETTINGS_SIZE 17

enum key_state {
	KEY_INTENT,   /* written down; upstream may or may not have it */
	KEY_LIVE,     /* upstream has it; may be handed out */
	KEY_RETIRING, /* works upstream; not handed out; deleted when nothing holds it and its grace
			 is over */
	KEY_BURNED, /* an intent nobody wants: occupied and blocked upstream until it may be deleted
		     */
	KEY_DELETED, /* gone upstream; the row stays for the audit, the secret is erased */
};
enum { KEY_N_STATES = KEY_DELETED + 1 };

enum key_source {
	KEY_MINTED,	   /* by us, the secret chosen by us */
	KEY_SERVER_CHOSEN, /* by us where upstream forbids chosen keys; hash and secret known once
			      live */
	KEY_IMPORTED,	   /* `keybroker import` */
	KEY_LEGACY, /* of the old provisioner, found under our alias: only its hash is known */
};

struct key_row {
	char id[ID_SIZE]; /* also the intent id in the key's metadata upstream */
	char profile[PROFILE_NAME_MAX];
	enum profile_mode mode;
	enum key_state state;
	enum key_source source;
	uint64_t generation;	    /* shared: 1, 2, …; dedicated: 0 */
	char hash[SHA256_HEX_SIZE]; /* SHA-256 of the key; "" while upstream has yet to choose it */
	char alias[ALIAS_MAX];	    /* the name it has, or is to have, upstream */
	char team_id[TEAM_ID_MAX];  /* "" if none */
	int64_t uid;		    /* dedicated: who asked (idempotency); -1: nobody yet (pool) */
	char request_id[REQUEST_ID_MAX];
	uint64_t term;	       /* that wrote the row */
	int64_t created_at_ms; /* Unix; 0 where unknown, here and below */
	int64_t expires_at_ms; /* as /key/info said, corrected to our clock; 0: never */
	int64_t changed_at_ms; /* when `state` was entered */
	int64_t delete_at_ms;  /* not deleted before; 0: as soon as nothing holds
				  it */
	bool dead;    /* revoked, or found dead: blocked until it is deleted, whoever holds it */
	bool at_once; /* shared: once it is live, older generations stay for nobody */
	char settings[KEY_SETTINGS_SIZE]; /* pool and shared: digest of the profile's that it was
					     made by; "": not known */
};

/* Made for the pool, and nobody has got it yet. */
bool key_row_is_pooled(const struct key_row *row);
const char *key_state_name(enum key_state state);
const char *key_source_name(enum key_source source);
bool key_may_change(enum key_state from, enum key_state to);
