/*
 * What one uid makes the broker hold or do: connections, buffered bytes, requests waiting, leases,
 * mints per minute. A limit hurts that uid only. An account lives as long as anything is charged to
 * it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/macros.h"

struct accounts;

struct account {
	uid_t uid;
	int64_t connections;
	int64_t buffered; /* bytes of replies that the peers have not taken yet, and of unfinished
			     requests */
	int64_t waiting;  /* requests without a reply yet */
	int64_t leases;	  /* active, and being granted */
	double mints;	  /* token bucket: what is left of mints_per_minute */
	int64_t mints_at_ms; /* boot time of the last refill; 0: full */
	int64_t uses;	     /* holders of a pointer: account_get() counts up, account_put() down */
};

struct accounts *accounts_new(void);
void accounts_free(struct accounts *a); /* all must have been put back */
DEFINE_CLEANUP(struct accounts, accounts)
/* The account of a uid, made if needed; give it back with account_put(). */
struct account *account_get(struct accounts *a, uid_t uid);
/* Forgets the account when nobody uses it, except that a used-up mint bucket is kept until it is
 * full again. */
void account_put(struct accounts *a, struct account *account);
/* Takes one mint of `per_minute` at boot time `now_ms`. False: none left, `ret_wait_ms` until there
 * is one. */
bool account_take_mint(struct account *account, int64_t per_minute, int64_t now_ms,
		       int64_t *ret_wait_ms);
