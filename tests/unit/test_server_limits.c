/* The server: what a uid may make it hold, and what becomes of those who take more. */
#include "test_server_expect.h"

#include <sys/mman.h>
#include <sys/resource.h>

static void answer_waiting(struct fixture *f, int n)
{
	for (; n > 0; n--)
		fixture_reply(fixture_take(f), 2);
}

static void test_too_many_waiting_requests_of_a_uid_are_refused(void **state)
{
	struct fixture *f = *state;

	FIXTURE_LIMIT(f, waiting, 4);
	_cleanup_(client_close) struct client a = client_connect(f), b = client_connect(f);
	client_requests(&a, 0, 6, "wait");
	client_expect_error(f, &a, 4, "limit_exceeded");
	client_expect_error(f, &a, 5, "limit_exceeded");
	client_request(&b, 100, "wait");
	client_expect_error(f, &b, 100, "limit_exceeded");
	assert_int_equal(f->handled, 4);
	assert_int_equal(fixture_account(f).waiting, 4);
	answer_waiting(f, 1);
	client_request(&b, 101, "wait");
	FIXTURE_UNTIL(f, f->handled == 5);
	answer_waiting(f, 4);
	for (uint32_t id = 0; id < 4; id++)
		client_expect(f, &a, id);
	client_expect(f, &b, 101);
}

/* One at once, then one each 20 ms, in the order in which the connections came. */
static void test_requests_over_the_rate_wait_their_turn(void **state)
{
	struct fixture *f = *state;
	enum { CLIENTS = 3, EACH = 5 };
	struct client clients[CLIENTS];
	int64_t before;

	FIXTURE_LIMIT(f, requests_per_second, 50);
	for (size_t i = 0; i < CLIENTS; i++)
		clients[i] = client_connect(f);
	client_requests(&clients[0], 1000, 50, "echo"); /* what may come at once */
	for (uint32_t id = 1000; id < 1050; id++)
		client_expect(f, &clients[0], id);
	before = clock_monotonic_nsec();
	for (size_t i = 0; i < CLIENTS; i++)
		client_requests(&clients[i], 0, EACH, "echo");
	for (uint32_t id = 0; id < EACH; id++)
		for (size_t i = 0; i < CLIENTS; i++)
			client_expect(f, &clients[i], id);
	assert_true(clock_monotonic_nsec() - before > INT64_C(200) * 1000000);
	for (size_t i = 0; i < CLIENTS; i++)
		client_close(&clients[i]);
}

/* A read that brings no whole request costs as much as one that does. */
static void test_bytes_one_by_one_are_over_the_rate_too(void **state)
{
	struct fixture *f = *state;
	_cleanup_(client_close) struct client a = client_connect(f), b = client_connect(f);
	uint8_t bytes[] = "\x94\x00\x01\xd9\x20xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
	int64_t before;

	FIXTURE_LIMIT(f, requests_per_second, 20);
	for (size_t i = 0; i < 25; i++) {
		client_send(&a, &bytes[i], 1);
		fixture_turn(f);
		fixture_turn(f);
	}
	before = clock_monotonic_nsec();
	client_request(&b, 1, "echo");
	client_expect(f, &b, 1);
	assert_true(clock_monotonic_nsec() - before > INT64_C(20) * 1000000);
}

/* Forty connections have more to be done than a turn takes; who comes alone is not the last. */
static void test_a_lone_request_does_not_stand_behind_another_uids_crowd(void **state)
{
	struct fixture *f = *state;
	enum { CLIENTS = 40, EACH = 200 };
	struct client clients[CLIENTS];
	int before;

	if (geteuid() != 0)
		skip(); /* needs a second uid */
	assert_int_equal(seteuid(4711), 0);
	_cleanup_(client_close) struct client lone = client_connect(f);
	assert_int_equal(seteuid(0), 0);
	client_request(&lone, 0, "echo");
	client_expect(f, &lone, 0);
	for (size_t i = 0; i < CLIENTS; i++) {
		clients[i] = client_connect(f);
		client_requests(&clients[i], 0, EACH, "fail");
	}
	FIXTURE_UNTIL(f, f->handled > CLIENTS * SERVER_CONN_REQUESTS);
	before = f->handled;
	client_request(&lone, 1, "echo");
	client_expect(f, &lone, 1);
	assert_true(f->handled - before <= 4 * SERVER_TURN_REQUESTS);
	for (size_t i = 0; i < CLIENTS; i++)
		client_close(&clients[i]);
}

static int64_t count_two_for_root(void *userdata, const struct peer *peer)
{
	(void)userdata;
	return peer->uid == geteuid() ? 2 : 1000;
}

static void test_a_peers_own_limit_of_connections_wins(void **state)
{
	struct fixture *f = *state;
	struct client c[3];

	FIXTURE_LIMIT(f, connections_of, count_two_for_root);
	for (size_t i = 0; i < ARRAY_SIZE(c); i++)
		c[i] = client_connect(f);
	client_request(&c[2], 9, "echo");
	client_expect_error(f, &c[2], 9, "limit_exceeded");
	client_expect_end(f, &c[2]);
	for (size_t i = 0; i < ARRAY_SIZE(c); i++)
		client_close(&c[i]);
}

/* Of 24 descriptors half, so 6 connections with their processes; then polite refusals, then none.
 */
static void test_a_uid_has_a_share_of_the_descriptors(void **state)
{
	struct fixture *f = *state;
	struct client c[16];

	accounts_set_descriptors(f->accounts, 24);
	for (size_t i = 0; i < ARRAY_SIZE(c); i++)
		c[i] = client_connect(f);
	for (size_t i = 0; i < 6; i++) {
		client_request(&c[i], 1, "echo");
		client_expect(f, &c[i], 1);
	}
	client_request(&c[6], 1, "echo");
	client_expect_error(f, &c[6], 1, "limit_exceeded");
	client_expect_end(f, &c[15]);
	assert_true(fixture_account(f).descriptors <= 17);
	if (geteuid() == 0) { /* another uid has half of what is left */
		assert_int_equal(seteuid(4711), 0);
		_cleanup_(client_close) struct client other = client_connect(f);
		assert_int_equal(seteuid(0), 0);
		client_request(&other, 1, "echo");
		client_expect(f, &other, 1);
	}
	for (size_t i = 0; i < ARRAY_SIZE(c); i++)
		client_close(&c[i]);
	FIXTURE_UNTIL(f, server_connections(f->server) == 0);
	assert_int_equal(fixture_account(f).descriptors, 0);
}

static void test_another_uid_is_served_while_one_waits(void **state)
{
	struct fixture *f = *state;

	if (geteuid() != 0)
		skip(); /* needs a second uid */
	FIXTURE_LIMIT(f, waiting, 4);
	_cleanup_(client_close) struct client a = client_connect(f);
	client_requests(&a, 0, 10, "wait");
	FIXTURE_UNTIL(f, f->handled == 4);
	assert_int_equal(seteuid(4711), 0);
	_cleanup_(client_close) struct client b = client_connect(f);
	assert_int_equal(seteuid(0), 0);
	client_request(&b, 1, "echo");
	client_expect(f, &b, 1);
}

static void test_a_slow_reader_is_not_read_and_gets_all_in_the_end(void **state)
{
	struct fixture *f = *state;
	_cleanup_(client_close) struct client c = client_connect(f);

	client_requests(&c, 0, 100, "big");
	/* its socket takes some, then 64 KiB and a reply more are kept for it, and that is all */
	FIXTURE_UNTIL(f, fixture_account(f).buffered > 65536);
	assert_true(fixture_idles(f, 20));
	assert_true(f->handled < 50);
	assert_true(fixture_account(f).buffered < 65536 + 40000);
	for (uint32_t id = 0; id < 100; id++)
		client_expect(f, &c, id);
	assert_int_equal(f->handled, 100);
	assert_int_equal(fixture_account(f).buffered, 0);
}

static void test_over_the_uids_buffered_limit_the_slow_reader_is_closed(void **state)
{
	struct fixture *f = *state;

	FIXTURE_LIMIT(f, buffered_bytes, 20000);
	_cleanup_(client_close) struct client good = client_connect(f), slow = client_connect(f);
	client_requests(&slow, 0, 100, "big");
	FIXTURE_UNTIL(f, server_connections(f->server) == 2);
	FIXTURE_UNTIL(f, server_connections(f->server) == 1);
	assert_int_equal(fixture_account(f).buffered, 0);
	client_request(&good, 1, "echo");
	client_expect(f, &good, 1);
}

static void test_a_reader_that_has_stopped_is_closed_in_time(void **state)
{
	struct fixture *f = *state;

	FIXTURE_LIMIT(f, idle_reap_ms, 30);
	_cleanup_(client_close) struct client c = client_connect(f);
	client_requests(&c, 0, 100, "big");
	FIXTURE_UNTIL(f, fixture_account(f).buffered > 65536);
	FIXTURE_UNTIL(f, server_connections(f->server) == 0);
}

/* A reply each 100 ms: a socket that is writable at three quarters free says nothing for longer
 * than one may stand still. */
static void test_a_reader_that_is_only_slow_is_not_closed(void **state)
{
	struct fixture *f = *state;
	enum { REPLIES = 12 };

	FIXTURE_LIMIT(f, idle_reap_ms, 280);
	_cleanup_(client_close) struct client c = client_connect(f);
	client_requests(&c, 0, REPLIES, "wait");
	FIXTURE_UNTIL(f, f->handled == REPLIES);
	for (int i = 0; i < REPLIES; i++)
		fixture_reply(fixture_take(f), 60000);
	for (uint32_t id = 0; id < REPLIES; id++) {
		int64_t next = clock_monotonic_nsec() + INT64_C(100) * 1000000;

		client_expect(f, &c, id);
		FIXTURE_UNTIL(f, clock_monotonic_nsec() > next);
	}
}

/* Half requests on many connections: those that would pass the limit are closed. */
static void test_half_requests_are_charged_to_the_uid(void **state)
{
	struct fixture *f = *state;
	enum { CLIENTS = 8, HALF = 3000 };
	struct client clients[CLIENTS];
	uint8_t half[HALF] = "\x94\x00\x05\xa4wait\x91\x81\xa1k\xda\x3f\x00";

	FIXTURE_LIMIT(f, buffered_bytes, 4 * HALF);
	for (size_t i = 0; i < CLIENTS; i++) {
		clients[i] = client_connect(f);
		FIXTURE_UNTIL(f, server_connections(f->server) == i + 1);
	}
	for (size_t i = 0; i < CLIENTS; i++) {
		client_send(&clients[i], half, HALF);
		fixture_turn(f);
		assert_true(fixture_account(f).buffered <= f->limits.buffered_bytes);
	}
	assert_int_equal(server_connections(f->server), 4);
	for (size_t i = 0; i < CLIENTS; i++)
		client_close(&clients[i]);
	FIXTURE_UNTIL(f, server_connections(f->server) == 0);
	assert_int_equal(fixture_account(f).buffered, 0);
}

/* Pipelining is no offence: with the account full the others wait for their turn. */
static void test_many_pipelining_connections_of_a_uid_are_all_served(void **state)
{
	struct fixture *f = *state;
	enum { CLIENTS = 40, EACH = 200 }; /* replies that a socket takes without a reader */
	struct client clients[CLIENTS];

	FIXTURE_LIMIT(f, buffered_bytes, 16384);
	for (size_t i = 0; i < CLIENTS; i++) {
		clients[i] = client_connect(f);
		client_requests(&clients[i], 0, EACH, "fail");
	}
	for (uint32_t id = 0; id < EACH; id++)
		for (size_t i = 0; i < CLIENTS; i++) {
			client_expect_error(f, &clients[i], id, "denied");
			assert_true(fixture_account(f).buffered <= 16384 + 4096);
		}
	for (size_t i = 0; i < CLIENTS; i++)
		client_close(&clients[i]);
}

static void test_more_connections_than_allowed_are_refused_then_closed_at_once(void **state)
{
	struct fixture *f = *state;
	struct client c[5];

	FIXTURE_LIMIT(f, connections, 2);
	for (size_t i = 0; i < ARRAY_SIZE(c); i++)
		c[i] = client_connect(f);
	client_expect_end(f, &c[4]);
	assert_int_equal(server_connections(f->server), 4);
	for (size_t i = 2; i < 4; i++) {
		client_request(&c[i], 9, "echo");
		client_expect_error(f, &c[i], 9, "limit_exceeded");
		client_expect_end(f, &c[i]);
	}
	for (size_t i = 0; i < 2; i++) {
		client_request(&c[i], 1, "echo");
		client_expect(f, &c[i], 1);
	}
	assert_int_equal(f->handled, 2);
	for (size_t i = 0; i < ARRAY_SIZE(c); i++)
		client_close(&c[i]);
}

static void test_the_admin_socket_serves_only_root_and_our_uid(void **state)
{
	struct fixture *f = *state;

	if (geteuid() != 0)
		skip(); /* needs a second uid */
	assert_int_equal(seteuid(4711), 0);
	_cleanup_(client_close) struct client stranger = client_connect(f);
	assert_int_equal(seteuid(0), 0);
	_cleanup_(client_close) struct client root = client_connect(f);
	client_request(&stranger, 1, "echo");
	client_request(&root, 2, "echo");
	client_expect_error(f, &stranger, 1, "denied");
	client_expect_end(f, &stranger);
	client_expect(f, &root, 2);
	assert_int_equal(f->handled, 1);
}

static void test_who_never_completes_a_request_is_closed(void **state)
{
	struct fixture *f = *state;

	FIXTURE_LIMIT(f, idle_reap_ms, 30);
	_cleanup_(client_close) struct client silent = client_connect(f), half = client_connect(f);
	_cleanup_(client_close) struct client later = client_connect(f), good = client_connect(f);
	client_send(&half, "\x94\x00", 2);
	client_request(&later, 1, "echo");
	client_request(&good, 1, "echo");
	client_expect(f, &later, 1);
	client_expect(f, &good, 1);
	/* a second request that never ends is no better than a first */
	client_send(&later, "\x94\x00", 2);
	FIXTURE_UNTIL(f, server_connections(f->server) == 1);
	client_expect_end(f, &silent);
	client_expect_end(f, &half);
	client_expect_end(f, &later);
	client_request(&good, 2, "echo");
	client_expect(f, &good, 2);
}

/* Not closed for slowness that is ours: the uid's limit keeps us from reading it. */
static void test_who_is_paced_is_not_closed_as_idle(void **state)
{
	struct fixture *f = *state;

	FIXTURE_LIMIT(f, idle_reap_ms, 20);
	FIXTURE_LIMIT(f, requests_per_second, 5);
	_cleanup_(client_close) struct client a = client_connect(f), b = client_connect(f);
	client_requests(&a, 1, 5, "echo");
	FIXTURE_UNTIL(f, f->handled == 5);
	client_request(&b, 9, "echo");
	client_expect(f, &b, 9);
	assert_int_equal(server_connections(f->server), 2);
}

/* The lines that the server logged while descriptors were short. */
static int count_lines(int fd, const char *what)
{
	char text[8192] = "";
	int n = 0;

	assert_true(pread(fd, text, sizeof(text) - 1, 0) >= 0);
	for (const char *at = text; (at = strstr(at, what)); at++)
		n++;
	return n;
}

static void test_without_descriptors_connections_wait_for_better_times(void **state)
{
	struct fixture *f = *state;
	int log = memfd_create("log", MFD_CLOEXEC), err = dup(STDERR_FILENO);
	struct rlimit old, tight;
	struct client c[3];

	for (size_t i = 0; i < ARRAY_SIZE(c); i++)
		c[i] = client_connect(f);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	int next = dup(STDIN_FILENO);
	tight = (struct rlimit){ .rlim_cur = (rlim_t)next + 1, .rlim_max = old.rlim_max };
	(void)close(next);
	assert_true(dup2(log, STDERR_FILENO) >= 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	/* one descriptor: enough for accept(), not for knowing the peer as well */
	fixture_turn(f);
	bool idle = fixture_idles(f, 20);
	int64_t until = clock_monotonic_nsec() + INT64_C(250) * 1000000;
	tight.rlim_cur--;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	FIXTURE_UNTIL(f, clock_monotonic_nsec() > until);
	uint64_t connections = server_connections(f->server);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_true(dup2(err, STDERR_FILENO) >= 0);
	assert_true(idle);
	assert_int_equal(connections, 0);
	assert_int_equal(count_lines(log, "new connections have to wait"), 1);
	for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
		client_request(&c[i], 1, "echo");
		client_expect(f, &c[i], 1);
	}
	for (size_t i = 0; i < ARRAY_SIZE(c); i++)
		client_close(&c[i]);
	(void)close(log);
	(void)close(err);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SERVER_TEST(test_too_many_waiting_requests_of_a_uid_are_refused),
		SERVER_TEST(test_requests_over_the_rate_wait_their_turn),
		SERVER_TEST(test_bytes_one_by_one_are_over_the_rate_too),
		SERVER_TEST(test_a_lone_request_does_not_stand_behind_another_uids_crowd),
		SERVER_TEST(test_a_peers_own_limit_of_connections_wins),
		SERVER_TEST(test_a_uid_has_a_share_of_the_descriptors),
		SERVER_TEST(test_another_uid_is_served_while_one_waits),
		SERVER_TEST(test_a_slow_reader_is_not_read_and_gets_all_in_the_end),
		SERVER_TEST(test_over_the_uids_buffered_limit_the_slow_reader_is_closed),
		SERVER_TEST(test_a_reader_that_has_stopped_is_closed_in_time),
		SERVER_TEST(test_a_reader_that_is_only_slow_is_not_closed),
		SERVER_TEST(test_half_requests_are_charged_to_the_uid),
		SERVER_TEST(test_many_pipelining_connections_of_a_uid_are_all_served),
		SERVER_TEST(test_more_connections_than_allowed_are_refused_then_closed_at_once),
		SERVER_ADMIN_TEST(test_the_admin_socket_serves_only_root_and_our_uid),
		SERVER_TEST(test_who_never_completes_a_request_is_closed),
		SERVER_TEST(test_who_is_paced_is_not_closed_as_idle),
		SERVER_TEST(test_without_descriptors_connections_wait_for_better_times),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
