/* A request that stays after its reply: what its connection is told, and when it ends. */
#include "test_server_expect.h"

#include <sys/socket.h>

/* A connection that has subscribed; its request is the only one on f->waiting. */
static struct request *subscribe(struct fixture *f, const struct client *c)
{
	client_request(c, 1, "subscribe");
	FIXTURE_UNTIL(f, !TAILQ_EMPTY(&f->waiting));
	return TAILQ_FIRST(&f->waiting);
}

/* A notification of about `n` bytes with this number. */
static void notify(struct request *r, uint32_t number, size_t n)
{
	_cleanup_(buf_deinit) struct buf b = BUF_INIT(0);
	_cleanup_(freep) char *text = xcalloc(1, n + 1);

	memset(text, 'x', n);
	assert_false(pack_notification(&b, "note") || pack_map(&b, 2) || pack_text(&b, "number") ||
		     pack_int(&b, number) || pack_text(&b, "text") || pack_text(&b, text));
	request_notify(r, &b);
}

static void expect_note(struct fixture *f, struct client *c, int64_t number)
{
	_cleanup_(message_freep) struct message *m = NULL;
	int64_t found = -1;

	FIXTURE_UNTIL(f, (m = client_take(c)));
	assert_int_equal(message_type(m), MESSAGE_NOTIFICATION);
	assert_true(value_int(value_get(message_params(m), "number"), &found));
	assert_int_equal(found, number);
}

/* Fills the socket until something has to wait here; yields how many notes that took. */
static uint32_t stuff(struct request *r)
{
	uint32_t n = 0;

	while (request_room(r) > 0)
		notify(r, n++, 10000);
	return n;
}

static void test_the_reply_comes_first_and_others_are_answered_between(void **state)
{
	struct fixture *f = *state;

	struct client c = client_connect(f);
	struct request *r = subscribe(f, &c);
	notify(r, 1, 10);
	client_expect(f, &c, 1);
	expect_note(f, &c, 1);
	client_request(&c, 2, "echo");
	client_expect(f, &c, 2);
	notify(r, 2, 10);
	expect_note(f, &c, 2);
	assert_int_equal(fixture_account(f).waiting, 0); /* its reply is out */
	client_close(&c);
}

static void test_a_connection_has_one(void **state)
{
	struct fixture *f = *state;

	struct client c = client_connect(f);
	struct request *r = subscribe(f, &c);
	client_expect(f, &c, 1);
	client_request(&c, 2, "subscribe");
	client_expect_error(f, &c, 2, "denied");
	TAILQ_REMOVE(&f->waiting, r, of_waiters);
	request_free(r);
	client_request(&c, 3, "subscribe"); /* that is over: another may come */
	client_expect(f, &c, 3);
	client_close(&c);
}

static void test_nothing_more_may_be_sent_until_it_is_taken(void **state)
{
	struct fixture *f = *state;

	struct client c = client_connect(f);
	struct request *r = subscribe(f, &c);
	client_expect(f, &c, 1);
	assert_int_equal(request_room(r), fixture_limits.buffered_bytes);
	uint32_t n = stuff(r);
	assert_in_range(fixture_account(f).buffered, 1, 10100); /* of one note, no more */
	assert_true(fixture_idles(f, 20));
	assert_int_equal(request_room(r), 0);
	for (uint32_t i = 0; i < n; i++)
		expect_note(f, &c, i);
	FIXTURE_UNTIL(f, request_room(r) > 0);
	assert_int_equal(fixture_account(f).buffered, 0);
	client_close(&c);
}

static void test_there_is_no_more_room_than_the_uid_has(void **state)
{
	struct server_limits limits = fixture_limits;
	struct fixture *f = *state;

	limits.buffered_bytes = 30000;
	server_set_limits(f->server, &limits);
	struct client c = client_connect(f), other = client_connect(f);
	struct request *r = subscribe(f, &c);
	uint8_t half[10000] = "\x94\x00\x05\xa4wait\x91\x81\xa1k\xda\x3f\x00";
	client_send(&other, half, sizeof(half));
	FIXTURE_UNTIL(f, fixture_account(f).buffered == sizeof(half));
	assert_int_equal(request_room(r), 20000);
	client_close(&c);
	client_close(&other);
}

/* Whoever owes a request is closed meanwhile; what a subscriber has not taken may wait. */
static void test_a_subscriber_may_stand_still(void **state)
{
	struct server_limits limits = fixture_limits;
	struct fixture *f = *state;

	struct client c = client_connect(f);
	struct request *r = subscribe(f, &c);
	client_expect(f, &c, 1);
	uint32_t n = stuff(r);
	limits.idle_reap_ms = 30;
	server_set_limits(f->server, &limits);
	for (int i = 0; i < 3; i++) {
		struct client silent = client_connect(f);

		FIXTURE_UNTIL(f, server_connections(f->server) == 2);
		FIXTURE_UNTIL(f, server_connections(f->server) == 1);
		client_close(&silent);
	}
	assert_true(request_alive(r));
	for (uint32_t i = 0; i < n; i++)
		expect_note(f, &c, i);
	client_close(&c);
}

static void test_it_hears_that_its_peer_has_gone(void **state)
{
	static const bool half[] = { false, true };

	for (size_t i = 0; i < ARRAY_SIZE(half); i++) {
		struct fixture *f;

		assert_int_equal(fixture_setup(state), 0);
		f = *state;
		struct client c = client_connect(f);
		(void)subscribe(f, &c); /* fixture_gone() frees it */
		if (half[i])
			assert_int_equal(shutdown(c.fd, SHUT_WR), 0);
		else
			client_close(&c);
		FIXTURE_UNTIL(f, f->gone == 1 && server_connections(f->server) == 0);
		client_close(&c);
		assert_int_equal(fixture_teardown(state), 0);
	}
}

static void test_it_may_hang_up(void **state)
{
	struct fixture *f = *state;

	struct client c = client_connect(f);
	request_hang_up(subscribe(f, &c));
	assert_int_equal(f->gone, 0); /* from the loop, not from within */
	FIXTURE_UNTIL(f, f->gone == 1);
	FIXTURE_UNTIL(f, server_connections(f->server) == 0);
	client_expect(f, &c, 1);
	client_expect_end(f, &c);
	client_close(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SERVER_TEST(test_the_reply_comes_first_and_others_are_answered_between),
		SERVER_TEST(test_a_connection_has_one),
		SERVER_TEST(test_nothing_more_may_be_sent_until_it_is_taken),
		SERVER_TEST(test_there_is_no_more_room_than_the_uid_has),
		SERVER_TEST(test_a_subscriber_may_stand_still),
		cmocka_unit_test(test_it_hears_that_its_peer_has_gone),
		SERVER_TEST(test_it_may_hang_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
