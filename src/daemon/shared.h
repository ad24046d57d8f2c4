/*
 * One shared profile: its current key, the next generation on its way, and who waits for it. The
 * leader makes or checks the key when it starts to lead, not at the first acquire.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/config.h"
#include "daemon/acquire.h"
#include "daemon/request.h"

struct daemon;
struct import;
struct key;
struct shared_list;

struct shared {
	struct daemon *d;
	char name[PROFILE_NAME_MAX];
	struct key *current; /* LIVE; NULL: none yet */
	struct key *next;    /* INTENT */
	struct acquire_list waiters;
	struct request_list rotate_waiters; /* admins who asked for a rotation (op_keys.c) */
	bool rotate_wanted;
	bool rotate_now; /* and the older generations are not to stay for anybody */
	bool storing;
	bool rejected;	      /* upstream has rejected the master key, and has not taken it since */
	unsigned failures;    /* in a row: the pauses grow */
	int64_t failed_at_ms; /* boot time of the last one */
	int64_t died_at_ms;   /* boot time at which upstream proved a key dead, last; 0: never */
	int64_t retry_at_ms;  /* boot time: no new intent before it */
	char error[512];      /* why there is no key, or no new one; "" */
	struct import *import; /* under way; owned (op_import.c) */
	enum proto_error error_code;
	struct event *timer;
	struct shared *following;
};

struct shared_list *shared_list_new(void);
void shared_list_free(struct shared_list *list);
DEFINE_CLEANUP(struct shared_list, shared_list)

/* NULL if there is no such shared profile. */
struct shared *shared_find(const struct daemon *d, const char *profile);
/* Follows the configuration: new profiles begin, those that are gone retire their key. */
void shared_configure(struct daemon *d);
/* Somebody needs the key. False: it failed a moment ago, `error_code` and `error` say why. */
bool shared_wanted(struct shared *s);
/* Starts what is due: the first key, the next generation. */
void shared_drive(struct shared *s);
/* Starts a rotation for who was put on rotate_waiters. */
void shared_rotate(struct shared *s);
/* A clean stop: tells all who wait. */
void shared_stop(struct daemon *d);
/* A key of this profile was found in the store. */
void shared_adopt(struct daemon *d, struct key *k);
/* Its intent is minted: commits the new generation and retires the old. */
void shared_minted(struct shared *s, struct key *k);
/* Its intent cannot go on now; `rejected`: the master key is at fault, so nobody is kept waiting.
 */
void shared_trouble(struct shared *s, bool rejected, const char *message);
/* Its intent has failed for good; says so to all who wait. */
void shared_failed(struct shared *s, enum proto_error code, const char *message);
/* Upstream proved that the current key is dead. */
void shared_mourn(struct shared *s);
/* The current key was taken away (revoked): makes another. */
void shared_lost(struct shared *s);
/* Makes `k` (already committed as LIVE) the current one and serves who waits. */
void shared_serve(struct shared *s, struct key *k);
/* The key object goes away. */
void shared_forget(struct key *k);
/* How long a retiring generation stays at least. */
int64_t shared_grace_ms(const struct key *k);
/* The name that the retiring generation of a key gets: "<alias>.g<n>". */
void shared_old_alias(const struct key_row *row, char ret[ALIAS_MAX]);

/* op_keys.c: answers all rotate_waiters: `k` is the new generation, `old` (may be NULL) the one
 * before; or why there is none. */
void op_rotate_reply_all(struct shared *s, const struct key *k, const struct key *old);
void op_rotate_fail_all(struct shared *s, enum proto_error code, int64_t retry_after_ms,
			const char *message);

/* op_import.c */
void import_free(struct import *i);
void import_abort(struct import *i, enum proto_error code, const char *message);
