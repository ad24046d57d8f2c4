/*
 * The active leases in memory, and the processes that hold some of them. A lease ends by its own
 * reason (the process has gone, its time is over, released, revoked): lease_end() writes that down,
 * and a dedicated key goes with its last lease in the same commit.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/map.h"
#include "core/lease.h"
#include "daemon/request.h"

struct account;
struct audit_row;
struct change;
struct daemon;
struct event;
struct holder;
struct key;
struct leases;
struct peer;

/* A process. Hashed. */
struct holder_id {
	int64_t pid;
	uint64_t start; /* as in struct peer */
};

/* What a repeated acquire has in common with its first. Hashed as a whole: zeroed before use. */
struct lease_request {
	int64_t uid;
	struct holder_id holder; /* zeroes for a TTL lease */
	char listen[PEER_LISTEN_SIZE];
	char profile[PROFILE_NAME_MAX];
	char request_id[REQUEST_ID_MAX];
};

struct lease {
	struct daemon *d;
	struct lease_row row;
	struct lease_row pending; /* the turn's draft */
	bool drafted;
	unsigned pins;
	bool counted;	 /* in its key's n_leases */
	bool ending;	 /* lease_end() is on its way to the disk */
	const char *due; /* the event it must end with as soon as that can be written */
	enum lease_state due_state;
	struct key *key;	 /* pinned; NULL for a static profile */
	uint64_t acked;		 /* the generation that its holder is known to use (rotation.c) */
	struct account *account; /* charged for it */
	struct holder *holder;	 /* LEASE_PROCESS; of any that waits to be taken up */
	struct tie tie;		 /* LEASE_CONNECTION */
	struct holder_id asker;	 /* of one that is another process's; zeroes in a later term */
	struct event *timer;	 /* for ends_boot_ms, or to try its end again */
	int64_t ends_boot_ms;	 /* it ends by itself then, a boot time; 0: not by time */
	int64_t life_ms;	 /* of a TTL lease: what it had left when its end was last set */
	TAILQ_ENTRY(lease) of_holder;
	bool indexed; /* in the table of requests, from lease_new() on */
	struct lease_request request;
	UT_hash_handle by_id, by_request;
};
TAILQ_HEAD(lease_list, lease);

struct leases *leases_new(struct daemon *d);
void leases_free(struct leases *leases);
DEFINE_CLEANUP(struct leases, leases)

/* A lease that is being granted, charged to its uid; not yet found by anyone. */
struct lease *lease_new(struct daemon *d, const struct lease_row *row, struct key *key);
/*
 * It is committed: counts for its key, is found by its id, and ends with its process (`pidfd` is
 * duplicated), its connection (holder_connect() was called) or its time. -ESRCH: what holds it has
 * gone already; the caller ends the lease.
 */
int lease_begin(struct lease *l, int pidfd) _must_check_;
/* Found by a new leader: ends with `pidfd` (-1: unknown), and unless its peer takes it up soon. */
void lease_await(struct lease *l, int pidfd);
/*
 * Its peer speaks of it in `r`: a connection lease goes over to this connection, and one that waits
 * waits no more. True: it did wait. What holds it then may be gone already, which ends it.
 */
bool lease_take_up(struct lease *l, struct request *r);
void lease_pin(struct lease *l);
void lease_unpin(struct lease *l); /* frees a lease that is over or never began */
struct lease_row *lease_pending(struct lease *l);
void lease_settle(struct lease *l, bool committed);
void lease_row_set(struct lease_row *row, unsigned set, const struct lease_row *to);

struct lease *leases_find(const struct leases *leases, const char *id);
/* Its key is a provider's and its profile has upstream keys now, or the reverse: of no use. */
bool lease_is_stale(const struct lease *l);
/* What a peer's acquire with this idempotency key got, or is being granted: a lease of `holder`, or
 * a TTL lease of the uid. NULL: none, or a stale one. */
struct lease *leases_find_request(const struct leases *leases, const struct peer *peer,
				  struct holder_id holder, const char *profile, const char *id);
/* The process that holds it, or has its connection; zeroes for a TTL lease. */
struct holder_id lease_holder_id(const struct lease_row *row);
struct lease *leases_first(const struct leases *leases);
struct lease *leases_next(const struct lease *l);
uint64_t leases_count(const struct leases *leases);
/* May this peer speak of it: the same uid and `listen`, and, but for TTL leases, the very process
 * that holds it, or asked for it in this term. */
bool lease_is_of(const struct lease *l, const struct peer *peer);

/*
 * Ends it; `done` (may be NULL) with `userdata` when that is committed or failed. `by` NULL: it
 * ends by itself, so what cannot be written down now is tried again. `event` is a constant.
 */
typedef void (*lease_ended_fn)(void *userdata, int outcome);
void lease_end(struct lease *l, enum lease_state state, const char *event, const struct peer *by,
	       lease_ended_fn done, void *userdata);
/* Names it, its key, profile and rule in an audit row. */
void lease_describe(const struct lease *l, struct audit_row *a);
/* It holds another key of its profile from now on. */
void lease_move(struct lease *l, struct key *key);
/* The machine has slept, which timers don't count: its end may have come. */
void lease_look_again(struct lease *l);
