/* Accounts: one per uid, mints by the minute, and nothing forgotten too early or kept too long. */
#include "test.h"

#include "base/clock.h"
#include "daemon/account.h"

static void test_a_uid_has_one_account(void **state)
{
	_cleanup_(accounts_freep) struct accounts *a = accounts_new();
	struct account *x = account_get(a, 1000, ""), *y = account_get(a, 1001, "");

	(void)state;
	assert_ptr_not_equal(x, y);
	assert_int_equal(x->uid, 1000);
	assert_ptr_equal(account_get(a, 1000, ""), x);
	x->connections = 3;
	account_put(a, x);
	assert_ptr_equal(account_get(a, 1000, ""), x); /* still in use elsewhere */
	assert_int_equal(x->connections, 3);
	account_put(a, x);
	account_put(a, x);
	account_put(a, y);
	assert_int_equal(account_get(a, 1000, "")->uses, 1);
	account_put(a, account_get(a, 1000, ""));
	account_put(a, account_get(a, 1000, ""));
	struct account *z = account_get(a, 1000, "");
	account_put(a, z);
	account_put(a, z);
}

static void test_mints_run_out_and_come_back_at_their_rate(void **state)
{
	_cleanup_(accounts_freep) struct accounts *a = accounts_new();
	struct account *x = account_get(a, 1000, "");
	int64_t now = 1000000, wait = 0;

	(void)state;
	for (int i = 0; i < 60; i++)
		assert_true(account_take_mint(x, NULL, 60, now, &wait));
	assert_false(account_take_mint(x, NULL, 60, now, &wait));
	assert_true(wait >= 1000 && wait <= 1001);
	assert_false(account_take_mint(x, NULL, 60, now + 900, &wait));
	assert_true(wait >= 100 && wait <= 101);
	assert_true(account_take_mint(x, NULL, 60, now + 1001, &wait));
	assert_false(account_take_mint(x, NULL, 60, now + 1001, &wait));
	/* an hour fills it, and not more than once */
	now += 3600000;
	for (int i = 0; i < 60; i++)
		assert_true(account_take_mint(x, NULL, 60, now, &wait));
	assert_false(account_take_mint(x, NULL, 60, now, &wait));
	x->mints.at_ms = 0; /* full */
	account_put(a, x);
}

static void test_the_wait_is_long_enough(void **state)
{
	_cleanup_(accounts_freep) struct accounts *a = accounts_new();
	struct account *x = account_get(a, 1000, "");
	int64_t now = 5, wait = 0;

	(void)state;
	for (int64_t rate = 1; rate < 200; rate += 7) {
		while (account_take_mint(x, NULL, rate, now, &wait))
			;
		now += wait;
		assert_true(account_take_mint(x, NULL, rate, now, &wait));
	}
	x->mints.at_ms = 0;
	account_put(a, x);
}

static void test_a_lowered_rate_holds_at_once(void **state)
{
	_cleanup_(accounts_freep) struct accounts *a = accounts_new();
	struct account *x = account_get(a, 1000, "");
	int64_t wait = 0;

	(void)state;
	assert_true(account_take_mint(x, NULL, 60, 1000, &wait));
	assert_true(account_take_mint(x, NULL, 1, 1000, &wait));
	assert_false(account_take_mint(x, NULL, 1, 1000, &wait));
	assert_false(account_take_mint(x, NULL, 0, 1000, &wait));
	assert_int_equal(wait, 60000);
	x->mints.at_ms = 0;
	account_put(a, x);
}

/* Neither does one rule's limit refill another's, nor does it empty it. */
static void test_a_rule_has_a_bucket_of_its_own(void **state)
{
	_cleanup_(accounts_freep) struct accounts *a = accounts_new();
	struct account *x = account_get(a, 1000, "");
	int64_t now = clock_now().boot_ms, wait = 0;

	(void)state;
	assert_true(account_take_mint(x, "gold", 1, now, &wait));
	for (int i = 0; i < 60; i++)
		assert_true(account_take_mint(x, NULL, 60, now, &wait));
	assert_false(account_take_mint(x, NULL, 60, now, &wait));
	assert_true(account_take_mint(x, "silver", 1, now, &wait));
	x->mints.at_ms = 0;
	account_put(a, x); /* it is kept for the rules' buckets */
	x = account_get(a, 1000, "");
	assert_false(account_take_mint(x, "gold", 1, now + 1000, &wait));
	assert_true(wait >= 58000);
	assert_true(account_take_mint(x, NULL, 60, now + 1000, &wait));
	assert_true(account_take_mint(x, "gold", 1, now + 60000, &wait));
	assert_false(account_take_mint(x, "gold", 1, now + 60000, &wait));
	account_put(a, x);
}

/* Going and coming back must not fill the bucket. */
static void test_a_used_bucket_outlives_its_users(void **state)
{
	_cleanup_(accounts_freep) struct accounts *a = accounts_new();
	int64_t now = clock_now().boot_ms, wait = 0;

	(void)state;
	for (int i = 0; i < 3; i++) {
		struct account *x = account_get(a, 1000, "");

		assert_int_equal(account_take_mint(x, NULL, 2, now, &wait), i < 2);
		account_put(a, x);
	}
	/* accounts that come and go in between change nothing */
	account_put(a, account_get(a, 1001, ""));
	struct account *x = account_get(a, 1000, "");
	assert_false(account_take_mint(x, NULL, 2, now, &wait));
	/* a minute later it is full again, and forgotten */
	x->mints.at_ms = now - 60000;
	account_put(a, x);
	x = account_get(a, 1000, "");
	assert_int_equal(x->mints.at_ms, 0);
	account_put(a, x);
}

static void test_no_accounts_at_all(void **state)
{
	(void)state;
	accounts_free(NULL);
	accounts_free(accounts_new());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_uid_has_one_account),
		cmocka_unit_test(test_mints_run_out_and_come_back_at_their_rate),
		cmocka_unit_test(test_the_wait_is_long_enough),
		cmocka_unit_test(test_a_lowered_rate_holds_at_once),
		cmocka_unit_test(test_a_rule_has_a_bucket_of_its_own),
		cmocka_unit_test(test_a_used_bucket_outlives_its_users),
		cmocka_unit_test(test_no_accounts_at_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
