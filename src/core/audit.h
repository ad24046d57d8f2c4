/*
 * One row of the audit: who did what, by which rule, with what outcome. Rows are chained by keyed
 * BLAKE2b over all their columns (audit_encode()), and hold a keyed tag of a key's hash, never a
 * key.
 */
#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "base/crypt.h"
#include "core/config.h"
#include "core/peer.h"

#define AUDIT_DETAIL_MAX 512

struct audit_row {
	/* set by the store when it appends */
	uint64_t sequence; /* 1, 2, … without gaps */
	uint8_t hash[HASH_SIZE];
	/* set by who reports the event */
	int64_t wall_ms, boot_ms;
	uint64_t term;
	char instance[64];
	char event[32];	  /* acquire, release, mint, … : AUDIT_* names below */
	char outcome[32]; /* ok, denied, failed, … */
	char rule[PROFILE_NAME_MAX];
	char profile[PROFILE_NAME_MAX];
	char lease[ID_SIZE];
	int64_t uid, gid, pid; /* -1 without a peer */
	uint64_t start_time;
	char unit[2 * PEER_UNIT_SIZE]; /* of the system, then / and the user's if there is one */
	char exe[256];
	char key_tag[33];
	char detail[AUDIT_DETAIL_MAX]; /* free text for people: no secret */
};

/* An empty row without a peer. */
void audit_init(struct audit_row *row);
void audit_set_peer(struct audit_row *row, const struct peer *peer);
/* Makes the texts that others had a hand in (unit, exe, detail) UTF-8: one bad byte would make the
 * page that holds the row unreadable to strict clients. */
void audit_clean(struct audit_row *row);

/*
 * The bytes that the chain covers: each column but `hash`, in the order above; an integer as 8
 * bytes big-endian, a text as its length (4 bytes, big-endian) and its bytes. -ENOMEM.
 */
int audit_encode(const struct audit_row *row, struct buf *b) _must_check_;
