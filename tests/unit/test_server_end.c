/* The server: how connections end, and what becomes of requests that are still open then. */
#include "test_server_expect.h"

static void test_who_waits_is_told_that_the_peer_has_gone(void **state)
{
	struct fixture *f = *state;
	struct client c = client_connect(f), other = client_connect(f);

	client_requests(&c, 1, 3, "wait");
	client_request(&other, 1, "wait");
	FIXTURE_UNTIL(f, f->handled == 4);
	client_close(&c);
	FIXTURE_UNTIL(f, f->gone == 3);
	assert_int_equal(server_connections(f->server), 1);
	assert_int_equal(fixture_account(f).waiting, 1);
	client_close(&other);
}

/* The request and the end of its peer are read in the same turn, so the end counts first. */
static void test_requests_of_the_dead_are_handled_but_not_alive(void **state)
{
	struct fixture *f = *state;
	struct client c = client_connect(f);

	FIXTURE_UNTIL(f, server_connections(f->server) == 1);
	client_requests(&c, 1, 2, "wait");
	client_close(&c);
	FIXTURE_UNTIL(f, f->handled == 2);
	FIXTURE_UNTIL(f, f->gone == 2);
	assert_int_equal(f->gone_living, 0);
	assert_int_equal(server_connections(f->server), 0);
}

static void test_a_half_closed_peer_still_gets_its_committed_replies(void **state)
{
	struct fixture *f = *state;
	_cleanup_(client_close) struct client c = client_connect(f);

	client_request(&c, 1, "commit");
	client_request(&c, 2, "wait");
	client_request(&c, 3, "commit");
	assert_int_equal(shutdown(c.fd, SHUT_WR), 0);
	client_expect(f, &c, 1);
	client_expect(f, &c, 3);
	client_expect_end(f, &c);
	assert_int_equal(f->gone, 1);
	assert_int_equal(f->gone_living, 1);
	assert_int_equal(server_connections(f->server), 0);
}

static void test_a_half_closed_slow_reader_gets_everything_that_was_asked(void **state)
{
	struct fixture *f = *state;
	_cleanup_(client_close) struct client c = client_connect(f);

	client_requests(&c, 0, 60, "big");
	assert_int_equal(shutdown(c.fd, SHUT_WR), 0);
	FIXTURE_UNTIL(f, fixture_account(f).buffered > 65536);
	for (uint32_t id = 0; id < 60; id++)
		client_expect(f, &c, id);
	client_expect_end(f, &c);
}

/* A failing send() is noticed within a handler's call: its other requests hear of it later. */
static void test_gone_is_never_called_from_within_a_send(void **state)
{
	struct fixture *f = *state;
	struct client c = client_connect(f);
	struct request *r;

	client_requests(&c, 1, 3, "wait");
	FIXTURE_UNTIL(f, f->handled == 3);
	client_close(&c);
	fixture_reply(fixture_take(f), 2);
	assert_int_equal(f->gone, 0);
	assert_int_equal(server_connections(f->server), 0);
	TAILQ_FOREACH (r, &f->waiting, of_waiters)
		assert_false(request_alive(r));
	fixture_turn(f);
	assert_int_equal(f->gone, 2);
}

/* The second reply finds the connection closed by the first, and the last one frees it. */
static void test_replies_to_a_dead_peer_go_nowhere(void **state)
{
	struct fixture *f = *state;
	struct client c = client_connect(f);

	client_requests(&c, 1, 3, "wait");
	FIXTURE_UNTIL(f, f->handled == 3);
	client_close(&c);
	while (!TAILQ_EMPTY(&f->waiting))
		request_fail(fixture_take(f), PROTO_INTERNAL, -1, "too late");
	assert_int_equal(fixture_account(f).waiting, 0);
	fixture_turn(f);
	assert_int_equal(f->gone, 0);
}

static void test_a_request_may_end_without_a_reply(void **state)
{
	struct fixture *f = *state;
	_cleanup_(client_close) struct client c = client_connect(f);

	client_request(&c, 1, "wait");
	FIXTURE_UNTIL(f, f->handled == 1);
	request_free(fixture_take(f));
	request_free(NULL);
	client_request(&c, 2, "echo");
	client_expect(f, &c, 2);
}

static void test_a_stopped_server_answers_but_takes_nothing_more(void **state)
{
	struct fixture *f = *state;
	_cleanup_(client_close) struct client c = client_connect(f);

	client_request(&c, 1, "wait");
	FIXTURE_UNTIL(f, f->handled == 1);
	client_requests(&c, 10, 40, "big");
	FIXTURE_UNTIL(f, fixture_account(f).buffered > 65536);
	int handled = f->handled;
	server_stop(f->server);
	_cleanup_(client_close) struct client late = client_connect(f);
	client_request(&late, 2, "echo");
	assert_true(fixture_idles(f, 20));
	request_fail(fixture_take(f), PROTO_NOT_LEADER, -1, "stopping");
	for (uint32_t i = 0; i < (uint32_t)handled - 1; i++)
		client_expect(f, &c, 10 + i);
	client_expect_error(f, &c, 1, "not_leader");
	assert_int_equal(f->handled, handled);
	assert_int_equal(server_connections(f->server), 1);
}

static void test_a_server_is_freed_with_connections_in_every_state(void **state)
{
	struct fixture *f = *state;
	_cleanup_(client_close) _unused_ struct client fresh = client_connect(f);
	_cleanup_(client_close) struct client half = client_connect(f);
	_cleanup_(client_close) struct client slow = client_connect(f), queued = client_connect(f);

	client_send(&half, "\x94\x00", 2);
	client_requests(&slow, 0, 100, "big");
	FIXTURE_UNTIL(f, fixture_account(f).buffered > 65536);
	client_requests(&queued, 0, 100, "echo");
	fixture_turn(f);
	_cleanup_(client_close) _unused_ struct client backlog = client_connect(f);
	server_free(TAKE(f->server));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SERVER_TEST(test_who_waits_is_told_that_the_peer_has_gone),
		SERVER_TEST(test_requests_of_the_dead_are_handled_but_not_alive),
		SERVER_TEST(test_a_half_closed_peer_still_gets_its_committed_replies),
		SERVER_TEST(test_a_half_closed_slow_reader_gets_everything_that_was_asked),
		SERVER_TEST(test_gone_is_never_called_from_within_a_send),
		SERVER_TEST(test_replies_to_a_dead_peer_go_nowhere),
		SERVER_TEST(test_a_request_may_end_without_a_reply),
		SERVER_TEST(test_a_stopped_server_answers_but_takes_nothing_more),
		SERVER_TEST(test_a_server_is_freed_with_connections_in_every_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
