/* The server: from bytes to requests and back, for peers of every kind of good and bad behaviour.
 */
#include "test_server_expect.h"

static void test_a_request_is_answered(void **state)
{
	struct fixture *f = *state;
	struct client c = client_connect(f);

	client_request(&c, 7, "echo");
	client_expect(f, &c, 7);
	client_request(&c, UINT32_MAX, "commit");
	client_expect(f, &c, UINT32_MAX);
	assert_int_equal(server_connections(f->server), 1);
	client_close(&c);
	FIXTURE_UNTIL(f, server_connections(f->server) == 0);
}

static void test_a_handler_sees_who_asks(void **state)
{
	struct fixture *f = *state;
	_cleanup_(client_close) struct client c = client_connect(f);

	client_request(&c, 1, "wait");
	FIXTURE_UNTIL(f, f->handled == 1);
	struct request *r = TAILQ_FIRST(&f->waiting);
	assert_int_equal(request_peer(r)->uid, geteuid());
	assert_int_equal(request_peer(r)->pid, getpid());
	assert_int_equal(request_account(r)->uid, geteuid());
	assert_int_equal(value_len(request_params(r)), 0);
	assert_true(request_pidfd(r) >= 0);
	assert_true(request_alive(r));
	assert_true(r->admin);
}

static void test_an_error_carries_code_text_and_retry(void **state)
{
	struct fixture *f = *state;
	_cleanup_(client_close) struct client c = client_connect(f);
	int64_t retry = 0;

	client_request(&c, 3, "fail");
	_cleanup_(message_freep) struct message *m = client_reply(f, &c);
	assert_string_equal(value_text(value_get(message_error(m), "code")), "denied");
	assert_string_equal(value_text(value_get(message_error(m), "message")), "no: fail");
	assert_true(value_int(value_get(message_error(m), "retry_after_ms"), &retry));
	assert_int_equal(retry, 1500);
}

static void test_a_long_error_text_is_cut_between_characters(void **state)
{
	struct fixture *f = *state;
	char text[1201];

	for (size_t i = 0; i < 600; i++)
		memcpy(text + 2 * i, "\xc3\xbc", 3);
	for (size_t shift = 0; shift < 2; shift++) {
		_cleanup_(client_close) struct client c = client_connect(f);

		client_request(&c, 1, "wait");
		FIXTURE_UNTIL(f, !TAILQ_EMPTY(&f->waiting));
		request_fail(fixture_take(f), PROTO_INTERNAL, -1, "%.*s%s", (int)shift, "a", text);
		_cleanup_(message_freep) struct message *m = client_reply(f, &c);
		const struct value *v = value_get(message_error(m), "message");
		assert_true(value_len(v) <= 511 && value_len(v) > 505);
		assert_int_equal((value_len(v) - shift) % 2, 0);
	}
}

static void test_a_reply_over_the_limit_is_an_internal_error(void **state)
{
	struct fixture *f = *state;

	f->big = message_reply_limits.bytes;
	_cleanup_(client_close) struct client c = client_connect(f);
	client_request(&c, 1, "big");
	client_expect_error(f, &c, 1, "internal");
	client_request(&c, 2, "echo");
	client_expect(f, &c, 2);
}

static void test_a_request_may_come_in_any_two_parts(void **state)
{
	struct fixture *f = *state;
	_cleanup_(buf_deinit) struct buf b = BUF_INIT(0);

	assert_false(pack_request(&b, 70000, "echo") || pack_map(&b, 1) ||
		     pack_text(&b, "profile") || pack_text(&b, "service"));
	_cleanup_(client_close) struct client c = client_connect(f);
	FIXTURE_UNTIL(f, server_connections(f->server) == 1);
	for (size_t cut = 1; cut < b.len; cut++) {
		int handled = f->handled;

		client_send(&c, b.data, cut);
		fixture_turn(f);
		assert_int_equal(f->handled, handled);
		assert_int_equal(fixture_account(f).buffered, cut);
		client_send(&c, b.data + cut, b.len - cut);
		client_expect(f, &c, 70000);
		assert_int_equal(fixture_account(f).buffered, 0);
	}
}

static void test_a_request_may_be_cut_off_anywhere(void **state)
{
	struct fixture *f = *state;
	_cleanup_(buf_deinit) struct buf b = BUF_INIT(0);

	assert_false(pack_request(&b, 70000, "echo") || pack_map(&b, 0));
	for (size_t cut = 0; cut < b.len; cut++) {
		struct client c = client_connect(f);

		client_send(&c, b.data, cut);
		fixture_turn(f);
		client_close(&c);
		FIXTURE_UNTIL(f, server_connections(f->server) == 0);
		assert_int_equal(fixture_account(f).buffered, 0);
	}
	assert_int_equal(f->handled, 0);
}

static void test_the_largest_request_is_read(void **state)
{
	struct fixture *f = *state;
	_cleanup_(buf_deinit) struct buf b = BUF_INIT(0);
	char text[16000];

	memset(text, 'x', sizeof(text));
	assert_false(pack_request(&b, 1, "echo") || pack_map(&b, 1) || pack_text(&b, "token") ||
		     pack_text_n(&b, text, sizeof(text)));
	_cleanup_(client_close) struct client c = client_connect(f);
	client_send(&c, b.data, b.len);
	client_expect(f, &c, 1);
}

struct hostile {
	const char *name, *bytes;
	size_t n;
	int64_t id; /* that the error is addressed to; -1: closed without a word */
};
#define HOSTILE(name, bytes, id)                   \
	{                                          \
		name, bytes, sizeof(bytes) - 1, id \
	}

static const struct hostile hostile_frames[] = {
	HOSTILE("reserved byte", "\xc1", -1),
	HOSTILE("text", "GET / HTTP/1.1\r\n\r\n", -1),
	HOSTILE("four thousand million elements", "\xdd\xff\xff\xff\xff", -1),
	HOSTILE("four thousand million pairs",
		"\x94\x00\x07\xa4"
		"echo\x91\xdf\xff\xff\xff\xff",
		7),
	HOSTILE("4 GiB of bytes",
		"\x94\x00\xcd\x01\x00\xa4"
		"echo\x91\x81\xa1k\xc6\xff\xff\xff\xff",
		256),
	HOSTILE("ext",
		"\x94\x00\x07\xa4"
		"echo\x91\x81\xa1k\xd4\x01\x01",
		7),
	HOSTILE("float",
		"\x94\x00\x07\xa4"
		"echo\x91\x81\xa1k\xca\x00\x00\x00\x00",
		7),
	HOSTILE("method is no text", "\x94\x00\x09\x05\x91\x80", 9),
	HOSTILE("negative id",
		"\x94\x00\xff\xa4"
		"echo\x91\x80",
		-1),
	HOSTILE("nesting",
		"\x94\x00\x0b\xa4"
		"echo\x91\x81\xa1k\x91\x91\x91\x91\x91\x91\x91\x90",
		11),
};

static void test_hostile_frames_are_answered_where_they_can_be_and_closed(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(hostile_frames); i++) {
		const struct hostile *h = &hostile_frames[i];
		_cleanup_(client_close) struct client c = client_connect(f);

		client_request(&c, 1, "echo");
		client_request(&c, 2, "commit");
		client_send(&c, h->bytes, h->n);
		client_request(&c, 4, "echo");
		client_expect(f, &c, 1);
		/* the error overtakes the reply that waits for the commit */
		if (h->id >= 0)
			client_expect_error(f, &c, (uint32_t)h->id, "invalid_request");
		client_expect(f, &c, 2);
		client_expect_end(f, &c);
	}
	assert_int_equal(f->handled, 2 * ARRAY_SIZE(hostile_frames));
	FIXTURE_UNTIL(f, server_connections(f->server) == 0);
}

/* xorshift: the same bytes in each run. */
static uint64_t random_next(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static void test_random_bytes_leave_nothing_behind(void **state)
{
	struct fixture *f = *state;
	uint64_t x = 88172645463325252u;

	for (int i = 0; i < 1000; i++) {
		static const char start[] = "\x94\x00\x05\xa4wait\x91\x84";
		_cleanup_(client_close) struct client c = client_connect(f);
		uint8_t noise[200];

		for (size_t k = 0; k < sizeof(noise); k++)
			noise[k] = (uint8_t)(random_next(&x) >> 32);
		/* half of them begin well */
		client_send(&c, start, i % 2 ? random_next(&x) % sizeof(start) : 0);
		client_send(&c, noise, random_next(&x) % sizeof(noise));
		fixture_turn(f);
	}
	FIXTURE_UNTIL(f, server_connections(f->server) == 0);
	assert_int_equal(fixture_account(f).buffered, 0);
	assert_int_equal(fixture_account(f).waiting, 0);
}

static void test_notifications_and_stray_replies_are_ignored(void **state)
{
	struct fixture *f = *state;
	_cleanup_(buf_deinit) struct buf b = BUF_INIT(0);

	assert_false(pack_notification(&b, "wait") || pack_map(&b, 0) || pack_result(&b, 5) ||
		     pack_nil(&b) || pack_request(&b, 6, "echo") || pack_map(&b, 0));
	_cleanup_(client_close) struct client c = client_connect(f);
	client_send(&c, b.data, b.len);
	client_expect(f, &c, 6);
	assert_int_equal(f->handled, 1);
}

static void test_a_thousand_pipelined_requests_are_answered_in_order(void **state)
{
	struct fixture *f = *state;
	_cleanup_(client_close) struct client c = client_connect(f);

	client_requests(&c, 0, 1000, "echo");
	for (uint32_t id = 0; id < 1000; id++)
		client_expect(f, &c, id);
	assert_int_equal(f->turn_max, SERVER_CONN_REQUESTS);
	assert_int_equal(f->handled, 1000);
}

static void test_a_turn_is_shared_between_connections(void **state)
{
	struct fixture *f = *state;
	enum { CLIENTS = 10, EACH = 100 };
	struct client clients[CLIENTS];

	for (size_t i = 0; i < CLIENTS; i++)
		clients[i] = client_connect(f);
	FIXTURE_UNTIL(f, server_connections(f->server) == CLIENTS);
	for (size_t i = 0; i < CLIENTS; i++)
		client_requests(&clients[i], 0, EACH, "echo");
	/* the four that fill the first turn may have their second one before the others are known
	 */
	for (int turn = 0; turn < 4; turn++)
		fixture_turn(f);
	assert_int_equal(f->handled, 4 * SERVER_TURN_REQUESTS);
	for (size_t i = 0; i < CLIENTS; i++) {
		struct message *m = client_take(&clients[i]);

		assert_non_null(m);
		message_free(m);
	}
	FIXTURE_UNTIL(f, f->handled == CLIENTS * EACH);
	assert_int_equal(f->turn_max, SERVER_TURN_REQUESTS);
	for (size_t i = 0; i < CLIENTS; i++)
		client_close(&clients[i]);
}

/* What is left when the turn is full must not wait for somebody else's event. */
static void test_work_that_is_left_keeps_the_loop_awake(void **state)
{
	struct fixture *f = *state;
	_cleanup_(client_close) struct client c = client_connect(f);

	client_requests(&c, 0, 40, "echo");
	FIXTURE_UNTIL(f, f->handled > 0);
	int first = f->handled;
	fixture_turn_with(f, 0);
	assert_int_equal(f->handled, first + SERVER_CONN_REQUESTS);
	FIXTURE_UNTIL(f, f->handled == 40);
	assert_true(fixture_idles(f, 20));
}

/* As systemd does to the instances that have a socket when it starts one more of them. */
static void test_a_listening_socket_that_was_made_blocking_stops_nothing(void **state)
{
	struct fixture *f = *state;
	int fd = -1;

	assert_int_equal(unlink(f->path), 0);
	assert_int_equal(socket_listen(f->path, 0755, 0666, (gid_t)-1, &fd), 0);
	assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
	assert_int_equal(server_listen(f->server, fd, false, ""), 0);
	_cleanup_(client_close) struct client c = client_connect(f);
	client_request(&c, 1, "echo");
	client_expect(f, &c, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SERVER_TEST(test_a_request_is_answered),
		SERVER_ADMIN_TEST(test_a_handler_sees_who_asks),
		SERVER_TEST(test_an_error_carries_code_text_and_retry),
		SERVER_TEST(test_a_long_error_text_is_cut_between_characters),
		SERVER_TEST(test_a_reply_over_the_limit_is_an_internal_error),
		SERVER_TEST(test_a_request_may_come_in_any_two_parts),
		SERVER_TEST(test_a_request_may_be_cut_off_anywhere),
		SERVER_TEST(test_the_largest_request_is_read),
		SERVER_TEST(test_hostile_frames_are_answered_where_they_can_be_and_closed),
		SERVER_TEST(test_random_bytes_leave_nothing_behind),
		SERVER_TEST(test_notifications_and_stray_replies_are_ignored),
		SERVER_TEST(test_a_thousand_pipelined_requests_are_answered_in_order),
		SERVER_TEST(test_a_turn_is_shared_between_connections),
		SERVER_TEST(test_work_that_is_left_keeps_the_loop_awake),
		SERVER_TEST(test_a_listening_socket_that_was_made_blocking_stops_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
