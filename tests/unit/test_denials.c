/*
 * Refusals in the audit: the first of a minute is on the disk before its reply leaves, the others
 * are counted, and a count is never lost to a failed commit.
 */
#include "test_serving.h"

/* Each method is the name of a profile that is refused; after a "!", of an event. */
static void refusing_handle(void *userdata, struct request *r)
{
	struct serving *x = userdata;
	const char *method = message_method(r->message);
	const struct denied what = { method + 1, "", "of the test" };

	if (*method == '!')
		denials_answer(&x->b->d, r, &what, "not %s", method + 1);
	else
		denials_by_rule(&x->b->d, r, "acquire", method);
}

static int refusing_setup(void **state)
{
	return serving_setup(state, refusing_handle);
}

#define DENIALS_TEST(f) cmocka_unit_test_setup_teardown(f, refusing_setup, serving_teardown)

static void test_ask(struct serving *x, uint32_t id, const char *profile, const char *code)
{
	client_request(&x->c, id, profile);
	serving_expect(x, id, code);
}

static int64_t test_rows(const struct serving *x, const char *where)
{
	char sql[256];

	(void)snprintf(sql, sizeof(sql),
		       "SELECT count(*) FROM audit WHERE event = 'acquire' AND outcome = 'denied'"
		       " AND %s",
		       where);
	return broker_count(x->b, sql);
}

static void test_the_first_is_a_row_and_the_others_a_count(void **state)
{
	struct serving *x = *state;

	test_ask(x, 1, "service", "denied");
	assert_int_equal(test_rows(x, "profile = 'service' AND detail LIKE 'no rule%'"), 1);
	for (uint32_t i = 2; i < 12; i++)
		test_ask(x, i, "service", "denied");
	assert_int_equal(test_rows(x, "1"), 1);
	denials_flush(&x->b->d);
	assert_int_equal(turn_end(x->b->d.turn), 0);
	assert_int_equal(test_rows(x, "1"), 2);
	assert_int_equal(test_rows(x, "profile = 'service' AND"
				      " detail = '10 more within a minute'"),
			 1);
	denials_flush(&x->b->d); /* what is written down is not counted again */
	assert_int_equal(turn_end(x->b->d.turn), 0);
	assert_int_equal(test_rows(x, "1"), 2);
}

static void test_each_profile_counts_for_itself(void **state)
{
	struct serving *x = *state;

	test_ask(x, 1, "service", "denied");
	test_ask(x, 2, "process", "denied");
	test_ask(x, 3, "service", "denied");
	assert_int_equal(test_rows(x, "profile = 'service'"), 1);
	assert_int_equal(test_rows(x, "profile = 'process'"), 1);
}

static void test_rows_name_the_peer(void **state)
{
	struct serving *x = *state;
	char where[64];

	test_ask(x, 1, "service", "denied");
	(void)snprintf(where, sizeof(where), "uid = %u AND gid = %u AND pid = %d", geteuid(),
		       getegid(), (int)getpid());
	assert_int_equal(test_rows(x, where), 1);
}

/* The reply waits for the commit. */
static void test_no_reply_leaves_before_the_row(void **state)
{
	struct serving *x = *state;

	client_request(&x->c, 1, "service");
	for (int i = 0; i < 20; i++) {
		fixture_turn(&x->f);
		assert_null(client_take(&x->c));
	}
	assert_int_equal(test_rows(x, "1"), 0);
	serving_expect(x, 1, "denied");
	assert_int_equal(test_rows(x, "1"), 1);
}

/* What was not written down was not the first: the next one is. */
static void test_a_first_that_cannot_be_written_does_not_count(void **state)
{
	struct serving *x = *state;

	broker_lock(x->b);
	test_ask(x, 1, "service", "audit_unavailable");
	test_ask(x, 2, "service", "audit_unavailable");
	broker_unlock(x->b);
	assert_int_equal(test_rows(x, "1"), 0);
	test_ask(x, 3, "service", "denied");
	assert_int_equal(test_rows(x, "detail LIKE 'no rule%'"), 1);
	test_ask(x, 4, "service", "denied");
	assert_int_equal(test_rows(x, "1"), 1);
}

static void test_a_peer_that_has_gone_is_recorded_all_the_same(void **state)
{
	struct serving *x = *state;

	client_request(&x->c, 1, "service");
	client_close(&x->c);
	while (test_rows(x, "1") == 0) {
		fixture_turn(&x->f);
		assert_int_equal(turn_end(x->b->d.turn), 0);
	}
	x->c = client_connect(&x->f);
	test_ask(x, 2, "service", "denied"); /* the same uid within the minute */
	assert_int_equal(test_rows(x, "1"), 1);
}

static void test_each_event_counts_for_itself(void **state)
{
	struct serving *x = *state;

	for (uint32_t i = 0; i < 4; i += 2) {
		test_ask(x, i, "!rotate", "denied");
		test_ask(x, i + 1, "!revoke", "denied");
	}
	assert_int_equal(broker_count(x->b, "SELECT count(*) FROM audit WHERE outcome = 'denied'"),
			 2);
	assert_int_equal(broker_count(x->b, "SELECT count(*) FROM audit WHERE event = 'revoke' AND"
					    " profile = '' AND detail = 'of the test'"),
			 1);
}

/* The minute's end comes while nothing can be written: the count waits, and is tried again. */
static void test_a_count_that_cannot_be_written_is_kept(void **state)
{
	struct serving *x = *state;

	for (uint32_t i = 1; i < 4; i++)
		test_ask(x, i, "process", "denied");
	broker_lock(x->b);
	denials_flush(&x->b->d);
	assert_int_equal(turn_end(x->b->d.turn), 0);
	broker_unlock(x->b);
	assert_int_equal(test_rows(x, "profile = 'process'"), 1);
	denials_flush(&x->b->d);
	assert_int_equal(turn_end(x->b->d.turn), 0);
	assert_int_equal(test_rows(x, "detail = '2 more within a minute'"), 1);
}

/* By the timer alone: one row when the time is over, and then nothing is held any more. */
static void test_the_count_comes_at_the_windows_end(void **state)
{
	int64_t deadline = clock_monotonic_nsec() + FIXTURE_PATIENCE_NSEC;
	struct serving *x = *state;

	x->b->config.timing.denial_window_ms = 200;
	test_ask(x, 1, "service", "denied");
	test_ask(x, 2, "service", "denied");
	test_ask(x, 3, "service", "denied");
	assert_int_equal(test_rows(x, "1"), 1);
	while (test_rows(x, "1") == 1) {
		assert_true(clock_monotonic_nsec() < deadline);
		serving_turn(x);
	}
	assert_int_equal(test_rows(x, "detail = '2 more within a minute'"), 1);
	test_ask(x, 4, "service", "denied");
	assert_int_equal(test_rows(x, "detail LIKE 'no rule%'"), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DENIALS_TEST(test_the_first_is_a_row_and_the_others_a_count),
		DENIALS_TEST(test_each_profile_counts_for_itself),
		DENIALS_TEST(test_each_event_counts_for_itself),
		DENIALS_TEST(test_a_count_that_cannot_be_written_is_kept),
		DENIALS_TEST(test_the_count_comes_at_the_windows_end),
		DENIALS_TEST(test_rows_name_the_peer),
		DENIALS_TEST(test_no_reply_leaves_before_the_row),
		DENIALS_TEST(test_a_first_that_cannot_be_written_does_not_count),
		DENIALS_TEST(test_a_peer_that_has_gone_is_recorded_all_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
