/*
 * Accounts in a hash table by uid and kind. Those that nobody uses but whose buckets are not full
 * again wait on a list, oldest first, so that a uid does not get a fresh bucket by going and coming
 * back.
 */
#include "daemon/account.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/map.h"
#include "base/text.h"
#include "core/peer.h"
#include "core/rule.h"

#define ACCOUNT_MINUTE_MS 60000
#define ACCOUNT_SECOND_MS 1000

struct account_rule {
	struct account_rule *next;
	struct bucket mints;
	char name[PROFILE_NAME_MAX];
};

/* Hashed as a whole: zeroed before use. */
struct account_id {
	uid_t uid;
	char socket[PEER_LISTEN_SIZE]; /* a listen section, "" or ACCOUNT_ADMIN */
};

#define ACCOUNT_ADMIN "/" /* no section has this name */

struct account_entry {
	struct account account;
	struct account_id id;
	TAILQ_ENTRY(account_entry) of_unused;
	UT_hash_handle hh;
};

struct accounts {
	struct account_entry *table;
	TAILQ_HEAD(, account_entry) unused;   /* uses == 0, a bucket not full when they got here */
	int64_t descriptors, max_descriptors; /* of all; 0: no limit */
};

struct accounts *accounts_new(void)
{
	struct accounts *a = xcalloc(1, sizeof(*a));

	TAILQ_INIT(&a->unused);
	return a;
}

static bool bucket_is_full(const struct bucket *b, int64_t period_ms, int64_t now_ms)
{
	return b->at_ms == 0 || now_ms - b->at_ms >= period_ms;
}

static double bucket_level(const struct bucket *b, int64_t size, int64_t period_ms, int64_t now_ms)
{
	double level = b->left + (double)size * (double)(now_ms - b->at_ms) / (double)period_ms;

	/* not more than full, also when the limit was lowered meanwhile */
	return b->at_ms == 0 ? (double)size : MIN_OF(level, (double)size);
}

/* Until there is one, to be taken as a whole. */
static int64_t bucket_wait(double level, int64_t size, int64_t period_ms)
{
	return level >= 1 ? 0 : (int64_t)((1 - level) * (double)period_ms / (double)size) + 1;
}

/* Full ones are forgotten, so those of rules that are gone do not stay. */
static void account_trim_rules(struct account *account, int64_t now_ms)
{
	struct account_rule **at = &account->rules;

	while (*at) {
		struct account_rule *r = *at;

		if (bucket_is_full(&r->mints, ACCOUNT_MINUTE_MS, now_ms)) {
			*at = r->next;
			free(r);
		} else {
			at = &r->next;
		}
	}
}

static struct bucket *account_mints(struct account *account, const char *rule, int64_t now_ms)
{
	struct account_rule *r;

	if (!rule)
		return &account->mints;
	account_trim_rules(account, now_ms);
	for (r = account->rules; r; r = r->next)
		if (strcmp(r->name, rule) == 0)
			return &r->mints;
	r = xcalloc(1, sizeof(*r));
	text_copy(r->name, sizeof(r->name), rule);
	r->next = account->rules;
	account->rules = r;
	return &r->mints;
}

static bool account_is_full(struct account *account, int64_t now_ms)
{
	account_trim_rules(account, now_ms);
	return !account->rules && bucket_is_full(&account->mints, ACCOUNT_MINUTE_MS, now_ms) &&
	       bucket_is_full(&account->requests, ACCOUNT_SECOND_MS, now_ms);
}

static void account_forget(struct accounts *a, struct account_entry *e)
{
	assert(a->table); /* `e` is in it */
	HASH_DEL(a->table, e);
	free(e);
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

static struct account_entry *account_add(struct accounts *a, const struct account_id *id)
{
	struct account_entry *e;

	account_forget_full(a, clock_now().boot_ms);
	e = xcalloc(1, sizeof(*e));
	e->account.uid = id->uid;
	e->id = *id;
	TAILQ_INIT(&e->account.paced);
	HASH_ADD(hh, a->table, id, sizeof(e->id), e);
	return e;
}

struct account *account_get(struct accounts *a, uid_t uid, const char *listen)
{
	struct account_entry *e;
	struct account_id id;

	memset(&id, 0, sizeof(id));
	id.uid = uid;
	text_copy(id.socket, sizeof(id.socket), listen);
	HASH_FIND(hh, a->table, &id, sizeof(id), e);
	if (!e)
		e = account_add(a, &id);
	else if (e->account.uses == 0)
		TAILQ_REMOVE(&a->unused, e, of_unused);
	e->account.uses++;
	return &e->account;
}

struct account *account_get_admin(struct accounts *a, uid_t uid)
{
	return account_get(a, uid, ACCOUNT_ADMIN);
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

bool account_take_mint(struct account *account, const char *rule, int64_t per_minute,
		       int64_t now_ms, int64_t *ret_wait_ms)
{
	struct bucket *b;

	if (per_minute <= 0) {
		*ret_wait_ms = ACCOUNT_MINUTE_MS;
		return false;
	}
	b = account_mints(account, rule, now_ms);
	b->left = bucket_level(b, per_minute, ACCOUNT_MINUTE_MS, now_ms);
	b->at_ms = now_ms;
	if (b->left < 1) {
		*ret_wait_ms = bucket_wait(b->left, per_minute, ACCOUNT_MINUTE_MS);
		return false;
	}
	b->left -= 1;
	return true;
}

int64_t account_request_wait(const struct account *account, int64_t per_second, int64_t now_ms)
{
	double level = bucket_level(&account->requests, per_second, ACCOUNT_SECOND_MS, now_ms);

	return per_second <= 0 ? 0 : bucket_wait(level, per_second, ACCOUNT_SECOND_MS);
}

void account_take_request(struct account *account, int64_t per_second, int64_t now_ms)
{
	struct bucket *b = &account->requests;

	b->left = bucket_level(b, per_second, ACCOUNT_SECOND_MS, now_ms) - 1;
	b->at_ms = now_ms;
}

void accounts_set_descriptors(struct accounts *a, int64_t n)
{
	a->max_descriptors = n;
}

bool account_may_hold(const struct accounts *a, const struct account *account, int64_t n)
{
	int64_t others = a->descriptors - account->descriptors;

	return a->max_descriptors == 0 ||
	       account->descriptors + n <= (a->max_descriptors - others) / 2;
}

void account_hold(struct accounts *a, struct account *account, int64_t n)
{
	a->descriptors += n;
	account->descriptors += n;
}
