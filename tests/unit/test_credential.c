/* Cached credentials against a broker that rotates, revokes, denies, dies and comes back. */
#include "test_fake_leases.h"

#include "base/fd.h"
#include "clients/c/credential.h"

static void test_many_calls_are_one_acquire(void **state)
{
	struct fake *f = *state;
	_cleanup_(keybroker_closep) struct keybroker *k = fake_open(f, 5000, 0);

	for (int i = 0; i < 1000; i++)
		assert_int_equal(fake_get(k), 1);
	assert_int_equal(f->shared->acquires, 1);
	assert_int_equal(f->shared->connections, 1);
}

static void test_a_rotation_is_heard_by_who_dispatches(void **state)
{
	struct fake *f = *state;
	_cleanup_(keybroker_closep) struct keybroker *k = fake_open(f, 5000, 100);

	assert_int_equal(fake_get(k), 1);
	WAIT_UNTIL(f->shared->watches == 1, );
	f->shared->generation = 2;
	WAIT_UNTIL(f->shared->acquires == 2, keybroker_dispatch(k));
	assert_int_equal(f->shared->acks, 0);
	assert_int_equal(fake_get(k), 2);
	WAIT_UNTIL(f->shared->acks == 1, keybroker_dispatch(k));
	assert_int_equal(f->shared->acked, 2);
	assert_int_equal(f->shared->acquires, 2);
}

/* Nobody dispatches: the call looks for itself, and doesn't hand out a key that is over. */
static void test_a_rotation_is_heard_by_who_asks(void **state)
{
	struct fake *f = *state;
	_cleanup_(keybroker_closep) struct keybroker *k = fake_open(f, 5000, 100);

	assert_int_equal(fake_get(k), 1);
	WAIT_UNTIL(f->shared->watches == 1, );
	f->shared->generation = 2;
	wire_pause(50, INT64_MAX); /* the note has come, and nobody has looked */
	assert_int_equal(fake_get(k), 2);
	WAIT_UNTIL(f->shared->acks == 1, assert_int_equal(fake_get(k), 2));
}

/* The answer was under way when the key rotated. */
static void test_an_answer_that_is_too_old_is_asked_again(void **state)
{
	struct fake *f = *state;
	_cleanup_(keybroker_closep) struct keybroker *k = fake_open(f, 5000, 0);

	assert_int_equal(fake_get(k), 1);
	WAIT_UNTIL(f->shared->watches == 1, );
	f->shared->behind = 1;
	f->shared->generation = 2;
	WAIT_UNTIL(f->shared->acquires == 3, keybroker_dispatch(k));
	WAIT_UNTIL(fake_get(k) == 2, );
}

static void test_a_revoked_key_is_forgotten(void **state)
{
	struct fake *f = *state;
	_cleanup_(keybroker_closep) struct keybroker *k = fake_open(f, 5000, 0);

	assert_int_equal(fake_get(k), 1);
	WAIT_UNTIL(f->shared->watches == 1, );
	f->shared->known = 2;
	f->shared->revoked = 1;
	wire_pause(50, INT64_MAX);
	assert_int_equal(fake_get(k), 1);
	assert_int_equal(f->shared->anew, 2);
	assert_int_equal(f->shared->acquires, 2);
}

static void test_the_key_is_served_while_the_broker_is_away(void **state)
{
	struct fake *f = *state;
	_cleanup_(keybroker_closep) struct keybroker *k = fake_open(f, 5000, 0);

	assert_int_equal(fake_get(k), 1);
	WAIT_UNTIL(f->shared->watches == 1, );
	fake_kill(f);
	int64_t began = wire_now_ms();
	for (int i = 0; i < 20; i++) {
		assert_int_equal(fake_get(k), 1);
		wire_pause(15, INT64_MAX);
	}
	assert_true(wire_now_ms() - began < 1000);
	fake_again(f);
	WAIT_UNTIL(f->shared->watches == 2, assert_int_equal(fake_get(k), 1));
	assert_int_equal(f->shared->acquires, 2);
	assert_int_equal(f->shared->anew, 1); /* the same lease */
}

static void test_a_lease_that_is_unknown_is_replaced(void **state)
{
	struct fake *f = *state;
	_cleanup_(keybroker_closep) struct keybroker *k = fake_open(f, 5000, 0);

	assert_int_equal(fake_get(k), 1);
	f->shared->known = 2;
	f->shared->generation = 7; /* of another state */
	fake_again(f);
	WAIT_UNTIL(f->shared->anew == 2, keybroker_dispatch(k));
	WAIT_UNTIL(fake_get(k) == 7, keybroker_dispatch(k));
	assert_int_equal(f->shared->acks, 0); /* a lease that never had another key */
}

static void test_a_denial_ends_the_key_in_memory(void **state)
{
	struct fake *f = *state;
	_cleanup_(keybroker_closep) struct keybroker *k = fake_open(f, 5000, 0);

	assert_int_equal(fake_get(k), 1);
	WAIT_UNTIL(f->shared->watches == 1, );
	f->shared->denies = true;
	f->shared->generation = 2;
	WAIT_UNTIL(f->shared->acquires == 2, keybroker_dispatch(k));
	WAIT_UNTIL(fake_get(k) == -KEYBROKER_DENIED, );
	f->shared->denies = false;
	WAIT_UNTIL(fake_get(k) == 2, ); /* one that is under way may have been denied before */
}

static void test_an_expired_key_is_not_served(void **state)
{
	struct fake *f = *state;
	_cleanup_(keybroker_closep) struct keybroker *k = fake_open(f, 300, 0);

	f->shared->life_ms = 400;
	assert_int_equal(fake_get(k), 1);
	fake_kill(f);
	WAIT_UNTIL(fake_get(k) < 0, );
	int code = -fake_get(k);
	assert_true(code == KEYBROKER_UNREACHABLE || code == KEYBROKER_LOST);
	fake_again(f);
	WAIT_UNTIL(fake_get(k) == 1, );
}

static void test_a_broker_that_is_mute_costs_the_time_out(void **state)
{
	struct fake *f = *state;
	_cleanup_(keybroker_closep) struct keybroker *k = fake_open(f, 200, 0);
	int64_t began = wire_now_ms();

	f->shared->mute = true;
	assert_int_equal(fake_get(k), -KEYBROKER_TIMEOUT);
	assert_true(wire_now_ms() - began < 1000);
	f->shared->mute = false;
	WAIT_UNTIL(fake_get(k) == 1, );
	assert_true(f->shared->connections > 1); /* another one may be served */
}

static void test_closing_releases(void **state)
{
	struct fake *f = *state;
	struct keybroker *k = fake_open(f, 5000, 0);

	assert_int_equal(fake_get(k), 1);
	keybroker_close(k);
	assert_int_equal(f->shared->releases, 1);
	k = fake_open(f, 5000, 0);
	assert_int_equal(fake_get(k), 1);
	f->shared->mute = true;
	int64_t began = wire_now_ms();
	keybroker_close(k); /* does not wait for long */
	assert_true(wire_now_ms() - began < 3000);
}

/* --- reports --- */

static void test_a_dead_key_is_replaced(void **state)
{
	struct fake *f = *state;
	_cleanup_(keybroker_closep) struct keybroker *k = fake_open(f, 5000, 0);
	_cleanup_(keybroker_lease_freep) struct keybroker_lease *l = NULL;
	enum keybroker_verdict verdict = KEYBROKER_KEY_UNKNOWN;

	f->shared->quiet = true;
	assert_int_equal(keybroker_get(k, NULL, &l, NULL), KEYBROKER_OK);
	f->shared->verdict = KEYBROKER_KEY_ALIVE;
	assert_int_equal(keybroker_report(k, l, 401, &verdict, NULL), KEYBROKER_OK);
	assert_int_equal(verdict, KEYBROKER_KEY_ALIVE);
	assert_int_equal(fake_get(k), 1);
	assert_int_equal(f->shared->acquires, 1);
	f->shared->verdict = KEYBROKER_KEY_DEAD;
	f->shared->generation = 2;
	assert_int_equal(keybroker_report(k, l, 401, &verdict, NULL), KEYBROKER_OK);
	assert_int_equal(verdict, KEYBROKER_KEY_DEAD);
	assert_int_equal(fake_get(k), 2);
	/* that key is gone: nobody is asked */
	int reports = f->shared->reports;
	assert_int_equal(keybroker_report(k, l, 401, &verdict, NULL), KEYBROKER_OK);
	assert_int_equal(verdict, KEYBROKER_KEY_REPLACED);
	assert_int_equal(f->shared->reports, reports);
}

static void test_a_lease_of_ones_own_is_reported(void **state)
{
	const struct keybroker_request request = { .profile = "service" };
	struct fake *f = *state;
	_cleanup_(keybroker_closep) struct keybroker *k = fake_open(f, 5000, 0);
	_cleanup_(keybroker_lease_freep) struct keybroker_lease *l = NULL;
	enum keybroker_verdict verdict = KEYBROKER_KEY_UNKNOWN;

	assert_int_equal(keybroker_acquire(k, &request, &l, NULL), KEYBROKER_OK);
	f->shared->verdict = KEYBROKER_KEY_REPLACED;
	assert_int_equal(keybroker_report(k, l, 401, &verdict, NULL), KEYBROKER_OK);
	assert_int_equal(verdict, KEYBROKER_KEY_REPLACED);
	assert_int_equal(f->shared->reports, 1);
}

static void test_what_is_shown_has_no_key(void **state)
{
	struct fake *f = *state;
	_cleanup_(keybroker_closep) struct keybroker *k = fake_open(f, 5000, 0);
	_cleanup_(keybroker_lease_freep) struct keybroker_lease *l = NULL;
	char text[256];

	assert_int_equal(keybroker_get(k, NULL, &l, NULL), KEYBROKER_OK);
	int n = keybroker_lease_describe(l, text, sizeof(text));
	assert_int_equal(n, (int)strlen(text));
	assert_non_null(strstr(text, "sk-…on-1,"));
	assert_null(strstr(text, "of-the-test"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FAKE_TEST(test_many_calls_are_one_acquire),
		FAKE_TEST(test_a_rotation_is_heard_by_who_dispatches),
		FAKE_TEST(test_a_rotation_is_heard_by_who_asks),
		FAKE_TEST(test_an_answer_that_is_too_old_is_asked_again),
		FAKE_TEST(test_a_revoked_key_is_forgotten),
		FAKE_TEST(test_the_key_is_served_while_the_broker_is_away),
		FAKE_TEST(test_a_lease_that_is_unknown_is_replaced),
		FAKE_TEST(test_a_denial_ends_the_key_in_memory),
		FAKE_TEST(test_an_expired_key_is_not_served),
		FAKE_TEST(test_a_broker_that_is_mute_costs_the_time_out),
		FAKE_TEST(test_closing_releases),
		FAKE_TEST(test_a_dead_key_is_replaced),
		FAKE_TEST(test_a_lease_of_ones_own_is_reported),
		FAKE_TEST(test_what_is_shown_has_no_key),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
