/* `acquire`: a peer asks for a key; it gets a lease on a live one, or waits until there is one. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "core/key.h"
#include "core/lease.h"
#include "daemon/leases.h"
#include "proto/errors.h"

struct account;
struct daemon;
struct event;
struct key;
struct request;

/* One acquire while it is on its way. Owned by the list it waits on. */
struct acquire {
	TAILQ_ENTRY(acquire) waiting;
	struct acquire_list *list; /* NULL: waits on none */
	struct daemon *d;
	struct request *request;
	struct event *timer; /* its deadline; NULL without */
	char profile[PROFILE_NAME_MAX];
	char rule[PROFILE_NAME_MAX];
	char *base_url;
	enum lease_bind bind;
	bool refreshable;
	struct holder_id holder; /* the process that it is for */
	int holder_fd;		 /* its pidfd, owned; -1: the peer's */
	struct account *charged; /* with that descriptor until the end; NULL: none */
	int64_t ttl_ms;		 /* granted; 0: an old lease's is read again */
	int64_t max_leases;	 /* of its uid, by its rule */
	int64_t min_valid_ms;
	bool min_valid_asked; /* by the caller; a default yields to what there is when upstream is
				 away */
	int64_t deadline_ms;  /* boot time */
	char request_id[REQUEST_ID_MAX];
	struct lease *lease; /* granted by it, or read again; pinned by the change that names it */
	bool reread;
	bool taken_up; /* a new leader had found it, and did not know who holds it */
	bool extended; /* its key has been prolonged for it, or could not be */
	bool mints;    /* its commit makes the key live */
	struct key *key;
};
TAILQ_HEAD(acquire_list, acquire);

/* The dedicated key that is being made for this very acquire, sent before; NULL: none. */
struct key *acquire_intent(const struct daemon *d, const struct request *r, const char *profile,
			   const char *request_id);
/* Finds or orders the key for it (op_acquire() has read and allowed it). */
void acquire_start(struct acquire *a, const struct profile *p);

/* It may have waited long: may it have `key` (NULL: a provider's) as things are now? Takes over
 * what its rule says by now. False: the acquire was ended. */
bool acquire_is_allowed(struct acquire *a, const struct key *key) _must_check_;
/* The name of a key for its peer, by the profile's template. */
void acquire_alias(const struct acquire *a, const struct profile *p, char ret[ALIAS_MAX]);
/* Puts it on a list; it leaves it by itself when its peer goes or its time is over. */
void acquire_wait(struct acquire *a, struct acquire_list *list);
/* Grants `key` to it: lease and audit row, then the reply. Takes it off its list. */
void acquire_grant(struct acquire *a, struct key *key);
/* Grants it if the key lives long enough for it; it must not wait on any list. */
bool acquire_try(struct acquire *a, struct key *key);
/* Grants `key` to all on a list that it is good enough for. */
void acquire_grant_all(struct acquire_list *list, struct key *key);
/* The key could not be prolonged: who did not insist gets it as it is, the others an error. */
void acquire_settle_all(struct acquire_list *list, struct key *key, enum proto_error code,
			const char *message);
/* What they wait for has come to nothing: each is started again as if it had just arrived. */
void acquire_restart_all(struct acquire_list *list);
/* It was answered: frees it. */
void acquire_done(struct acquire *a);
/* Ends it with an error. Takes it off its list. */
void acquire_fail(struct acquire *a, enum proto_error code, int64_t retry_after_ms,
		  const char *message);
void acquire_fail_all(struct acquire_list *list, enum proto_error code, int64_t retry_after_ms,
		      const char *message);
