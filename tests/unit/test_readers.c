/* Readers of the audit: a bounded number of rows a turn for all of them, one after the other, and
 * each gets what it asked for. */
#include "test_serving.h"

#include "daemon/op.h"
#include "daemon/readers.h"

/* A page is asked for by "read", all but nothing by "search", new rows by "follow". */
static void reading_handle(void *userdata, struct request *r)
{
	struct serving *x = userdata;

	if (strcmp(message_method(r->message), "follow") == 0)
		op_audit_follow(&x->b->d, r);
	else
		op_audit_read(&x->b->d, r);
}

static int reading_setup(void **state)
{
	struct serving *x;
	int r = serving_setup(state, reading_handle);

	x = *state;
	x->b->config.timing.audit_page_ms = 600000;
	x->b->d.readers = readers_new(&x->b->d);
	return r;
}

static int reading_teardown(void **state)
{
	struct serving *x = *state;

	readers_free(x->b->d.readers);
	return serving_teardown(state);
}

#define READERS_TEST(f) cmocka_unit_test_setup_teardown(f, reading_setup, reading_teardown)

static void reading_turn(struct serving *x)
{
	serving_turn(x);
	readers_run(x->b->d.readers);
}

static void test_ask(const struct client *c, uint32_t id, const char *method, const char *lease)
{
	_cleanup_(buf_deinit) struct buf b = BUF_INIT(0);

	assert_false(pack_request(&b, id, method) || pack_map(&b, 1) || pack_text(&b, "lease") ||
		     pack_text(&b, lease));
	client_send(c, b.data, b.len);
}

/* The next message of the client's, after as many turns as that takes. */
static struct message *test_take(struct serving *x, struct client *c)
{
	int64_t deadline = clock_monotonic_nsec() + FIXTURE_PATIENCE_NSEC;
	struct message *m;

	while (!(m = client_take(c))) {
		assert_true(clock_monotonic_nsec() < deadline);
		reading_turn(x);
	}
	return m;
}

static size_t test_rows_of(struct serving *x, uint32_t id)
{
	_cleanup_(message_freep) struct message *m = test_take(x, &x->c);

	assert_int_equal(message_id(m), id);
	assert_non_null(message_result(m));
	return value_len(value_get(message_result(m), "rows"));
}

static void test_wait_busy(struct serving *x)
{
	int64_t deadline = clock_monotonic_nsec() + FIXTURE_PATIENCE_NSEC / 10;

	for (; !readers_are_busy(x->b->d.readers); reading_turn(x))
		assert_true(clock_monotonic_nsec() < deadline);
}

/* How many turns a search has more to do at once. */
static int test_busy_turns(struct serving *x)
{
	int n = 0;

	test_wait_busy(x);
	for (; readers_are_busy(x->b->d.readers); n++)
		reading_turn(x);
	return n;
}

static void test_a_long_search_takes_many_turns(void **state)
{
	struct serving *x = *state;
	int turns;

	assert_int_equal(test_audit_turn(x->b->d.store, 20000), 0);
	test_ask(&x->c, 1, "search", "none");
	turns = test_busy_turns(x);
	assert_in_range(turns, 4, 40);
	assert_int_equal(test_rows_of(x, 1), 0);
}

static void test_two_searches_take_as_many_turns_as_they_have_rows(void **state)
{
	struct serving *x = *state;
	int one, two;

	assert_int_equal(test_audit_turn(x->b->d.store, 20000), 0);
	test_ask(&x->c, 1, "search", "none");
	one = test_busy_turns(x);
	assert_int_equal(test_rows_of(x, 1), 0);
	test_ask(&x->c, 2, "search", "none");
	test_ask(&x->c, 3, "search", "none");
	two = test_busy_turns(x);
	assert_true(two > one + one / 2);
	assert_int_equal(test_rows_of(x, 2), 0);
	assert_int_equal(test_rows_of(x, 3), 0);
}

/* A reader behind a long search has its turn soon, not when that is over. */
static void test_a_short_reading_does_not_wait_for_a_long_one(void **state)
{
	struct serving *x = *state;

	assert_int_equal(test_audit_turn(x->b->d.store, 50000), 0);
	test_ask(&x->c, 1, "search", "none");
	test_ask(&x->c, 2, "read", "lease-1");
	assert_int_equal(test_rows_of(x, 2), 50);
	assert_int_equal(test_rows_of(x, 1), 0);
}

static void test_a_search_that_is_due_answers_with_what_it_has(void **state)
{
	struct serving *x = *state;
	_cleanup_(message_freep) struct message *m = NULL;
	int64_t next = 0;

	x->b->config.timing.audit_page_ms = 0;
	assert_int_equal(test_audit_turn(x->b->d.store, 20000), 0);
	test_ask(&x->c, 1, "search", "none");
	m = test_take(x, &x->c);
	assert_int_equal(value_len(value_get(message_result(m), "rows")), 0);
	assert_true(value_int(value_get(message_result(m), "next"), &next));
	assert_in_range(next, 1, 19999);
}

/* Its row is written when it is complete; what cannot be recorded is not shown. */
static void test_a_page_that_cannot_be_recorded_is_not_sent(void **state)
{
	struct serving *x = *state;
	_cleanup_(message_freep) struct message *m = NULL;

	assert_int_equal(test_audit_turn(x->b->d.store, 5), 0);
	broker_lock(x->b);
	test_ask(&x->c, 1, "read", "lease-1");
	m = test_take(x, &x->c);
	assert_string_equal(value_text(value_get(message_error(m), "code")), "audit_unavailable");
	broker_unlock(x->b);
	assert_int_equal(
		broker_count(x->b, "SELECT count(*) FROM audit WHERE event = 'audit_read'"), 0);
}

static void test_a_reader_that_goes_in_the_middle_is_forgotten(void **state)
{
	struct serving *x = *state;
	struct client c = client_connect(&x->f);

	assert_int_equal(test_audit_turn(x->b->d.store, 20000), 0);
	test_ask(&c, 1, "search", "none");
	test_ask(&x->c, 2, "follow", "none");
	test_wait_busy(x);
	client_close(&c);
	client_close(&x->c);
	FIXTURE_UNTIL(&x->f, server_connections(x->f.server) == 0);
	reading_turn(x);
	assert_false(readers_are_busy(x->b->d.readers));
}

static void test_a_stop_ends_pages_and_leaves_followers(void **state)
{
	struct serving *x = *state;
	struct client follower = client_connect(&x->f);
	_cleanup_(message_freep) struct message *answer = NULL, *page = NULL, *row = NULL;

	test_ask(&follower, 1, "follow", "lease-1");
	answer = test_take(x, &follower);
	assert_non_null(message_result(answer));
	assert_int_equal(test_audit_turn(x->b->d.store, 20000), 0);
	test_ask(&x->c, 1, "search", "none");
	test_wait_busy(x);
	readers_stop(x->b->d.readers);
	page = test_take(x, &x->c);
	assert_string_equal(value_text(value_get(message_error(page), "code")), "not_leader");
	row = test_take(x, &follower);
	assert_string_equal(message_method(row), "audit");
	client_close(&follower);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		READERS_TEST(test_a_long_search_takes_many_turns),
		READERS_TEST(test_two_searches_take_as_many_turns_as_they_have_rows),
		READERS_TEST(test_a_short_reading_does_not_wait_for_a_long_one),
		READERS_TEST(test_a_search_that_is_due_answers_with_what_it_has),
		READERS_TEST(test_a_page_that_cannot_be_recorded_is_not_sent),
		READERS_TEST(test_a_reader_that_goes_in_the_middle_is_forgotten),
		READERS_TEST(test_a_stop_ends_pages_and_leaves_followers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
