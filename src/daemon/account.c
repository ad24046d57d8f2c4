/*
 * Accounts in a hash table by uid. Those that nobody uses but whose mints are not full again wait
 * on a list, oldest first, so that a uid does not get a fresh bucket by going and coming back.
 */
#include "daemon/account.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/map.h"

#define ACCOUNT_MINUTE_MS 60000 /* whatever the rate, an empty bucket is full after this */

struct account_entry {
	struct account account;
	TAILQ_ENTRY(account_entry) of_unused;
	UT_hash_handle hh;
};

struct accounts {
	struct account_entry *table;
	TAILQ_HEAD(, account_entry) unused; /* uses == 0, mints not full when they got here */
};

struct accounts *accounts_new(void)
{
	struct accounts *a = xcalloc(1, sizeof(*a));

	TAILQ_INIT(&a->unused);
	return a;
}

static void account_forget(struct accounts *a, struct account_entry *e)
{
	assert(a->table); /* `e` is in it */
	HASH_DEL(a->table, e);
	free(e);
}

static bool account_is_full(const struct account *account, int64_t now_ms)
{
	return account->mints_at_ms == 0 || now_ms - account->mints_at_ms >= ACCOUNT_MINUTE_MS;
}

/* Forgets unused accounts from the front of the list until one is not full yet. */
static void account_forget_full(struct accounts *a, int64_t now_ms)
{
	struct account_entry *e;

	while ((e = TAILQ_FIRST(&a->unused)) && account_is_full(&e->account, now_ms)) {
		TAILQ_REMOVE(&a->unused, e, of_unused);
		account_forget(a, e);
	}
}

void accounts_free(struct accounts *a)
{
	if (!a)
		return;
	account_forget_full(a, INT64_MAX);
	assert(!a->table);
	free(a);
}

static struct account_entry *account_add(struct accounts *a, uid_t uid)
{
	struct account_entry *e;

	account_forget_full(a, clock_now().boot_ms);
	e = xcalloc(1, sizeof(*e));
	e->account.uid = uid;
	HASH_ADD(hh, a->table, account.uid, sizeof(uid), e);
	return e;
}

struct account *account_get(struct accounts *a, uid_t uid)
{
	struct account_entry *e;

	HASH_FIND(hh, a->table, &uid, sizeof(uid), e);
	if (!e)
		e = account_add(a, uid);
	else if (e->account.uses == 0)
		TAILQ_REMOVE(&a->unused, e, of_unused);
	e->account.uses++;
	return &e->account;
}

void account_put(struct accounts *a, struct account *account)
{
	struct account_entry *e = CONTAINER_OF(account, struct account_entry, account);

	assert(account->uses > 0);
	account->uses--;
	if (account->uses > 0)
		return;
	if (account_is_full(account, clock_now().boot_ms))
		account_forget(a, e);
	else
		TAILQ_INSERT_TAIL(&a->unused, e, of_unused);
}

bool account_take_mint(struct account *account, int64_t per_minute, int64_t now_ms,
		       int64_t *ret_wait_ms)
{
	double rate = (double)per_minute / ACCOUNT_MINUTE_MS;

	if (per_minute <= 0) {
		*ret_wait_ms = ACCOUNT_MINUTE_MS;
		return false;
	}
	if (account->mints_at_ms == 0)
		account->mints = (double)per_minute;
	else
		account->mints += rate * (double)(now_ms - account->mints_at_ms);
	/* also when the limit was lowered meanwhile */
	account->mints = MIN_OF(account->mints, (double)per_minute);
	account->mints_at_ms = now_ms;
	if (account->mints < 1) {
		*ret_wait_ms = (int64_t)((1 - account->mints) / rate) + 1;
		return false;
	}
	account->mints -= 1;
	return true;
}
