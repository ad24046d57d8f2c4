/*
 * What one uid makes the broker hold or do: connections, descriptors, buffered bytes, requests,
 * leases, mints. A limit hurts that uid only. An account lives as long as anything is charged to
 * it. On the admin socket a uid has an account of its own, so that its programs cannot use up what
 * it needs to see to them; and by each `listen` section, since a container's root is not the
 * host's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "base/macros.h"

struct account_rule;
struct accounts;
struct conn;
TAILQ_HEAD(conn_list, conn);

/* A token bucket: full at first, and again after one period. */
struct bucket {
	double left;
	int64_t at_ms; /* boot time of the last refill; 0: full */
};

struct account {
	uid_t uid;
	int64_t connections;
	int64_t descriptors; /* of connections, and of processes that are watched for a lease */
	int64_t buffered; /* bytes of replies that the peers have not taken yet, and of unfinished
			     requests */
	int64_t waiting;  /* requests without a reply yet */
	int64_t queued;	  /* connections that go on in the next turn */
	int64_t leases;	  /* active, and being granted */
	struct bucket mints, requests;
	struct account_rule *rules; /* mints of the rules with a limit of their own */
	struct conn_list paced; /* connections whose next request is over the rate; oldest first */
	TAILQ_ENTRY(account) of_paced; /* on conn_set.paced while it has such */
	int64_t uses; /* holders of a pointer: account_get() counts up, account_put() down */
};
TAILQ_HEAD(account_list, account);

struct accounts *accounts_new(void);
void accounts_free(struct accounts *a); /* all must have been put back */
DEFINE_CLEANUP(struct accounts, accounts)
/* The account of a uid, of those that come by this `listen` section ("": by none), made if needed;
 * give it back with account_put(). */
struct account *account_get(struct accounts *a, uid_t uid, const char *listen);
struct account *account_get_admin(struct accounts *a, uid_t uid);
/* Forgets the account when nobody uses it, except that a used-up bucket is kept until it is full
 * again. */
void account_put(struct accounts *a, struct account *account);

/* Takes one mint of `per_minute` at boot time `now_ms`; that limit is of the rule of this name,
 * NULL: of all rules without one. False: none left, `ret_wait_ms` until there is one. */
bool account_take_mint(struct account *account, const char *rule, int64_t per_minute,
		       int64_t now_ms, int64_t *ret_wait_ms);
/* Milliseconds until one request of `per_second` may be taken; 0: now. No rate: always. */
int64_t account_request_wait(const struct account *account, int64_t per_second, int64_t now_ms);
/* Takes one; for what was done already the bucket may go below empty. */
void account_take_request(struct account *account, int64_t per_second, int64_t now_ms);

/* Descriptors that all accounts together may hold; 0: no limit. */
void accounts_set_descriptors(struct accounts *a, int64_t n);
/* May it hold `n` more? Each may have half of what the others leave, so that there is always
 * something for a uid that comes later. */
bool account_may_hold(const struct accounts *a, const struct account *account, int64_t n);
/* It holds `n` more, or fewer. */
void account_hold(struct accounts *a, struct account *account, int64_t n);
