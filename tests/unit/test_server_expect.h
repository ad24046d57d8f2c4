/* For the tests of the server: waiting for what must happen, and the end of it all. */
#pragma once

#include "test_server_client.h"

#define FIXTURE_PATIENCE_NSEC (INT64_C(20) * 1000000000) /* whoever waits longer has failed */

static inline int fixture_teardown(void **state)
{
	struct fixture *f = *state;

	while (!TAILQ_EMPTY(&f->waiting))
		request_free(fixture_take(f));
	server_free(f->server);
	accounts_free(f->accounts); /* asserts that nothing is charged any more */
	event_base_free(f->base);
	assert_int_equal(unlink(f->path), 0);
	assert_int_equal(rmdir(f->dir), 0);
	return 0;
}

#define SERVER_TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
#define SERVER_ADMIN_TEST(f) \
	cmocka_unit_test_setup_teardown(f, fixture_setup_admin, fixture_teardown)

/* Turns until `condition` holds. */
#define FIXTURE_UNTIL(f, condition)                                                      \
	do {                                                                             \
		int64_t until_deadline = clock_monotonic_nsec() + FIXTURE_PATIENCE_NSEC; \
		while (!(condition)) {                                                   \
			assert_true(clock_monotonic_nsec() < until_deadline);            \
			fixture_turn(f);                                                 \
		}                                                                        \
	} while (0)

static inline void fixture_on_guard(evutil_socket_t fd _unused_, short what _unused_, void *fired)
{
	*(bool *)fired = true;
}

/* A turn that may sleep: true if `ms` passed with nothing to do, so that the loop does not spin. */
static inline bool fixture_idles(struct fixture *f, int ms)
{
	struct timeval wait = { .tv_usec = ms * 1000 };
	bool fired = false;
	int handled = f->handled;
	struct event *guard = evtimer_new(f->base, fixture_on_guard, &fired);

	fixture_turn(f); /* what is ready now does not count */
	assert_int_equal(evtimer_add(guard, &wait), 0);
	fixture_turn_with(f, 0);
	event_free(guard);
	return fired && f->handled == handled;
}

/* The next reply, running turns until it is there; NULL at the end of the stream. */
static inline struct message *client_reply(struct fixture *f, struct client *c)
{
	struct message *m = NULL;

	FIXTURE_UNTIL(f, (m = client_take(c)) || c->ended);
	return m;
}

/* The next reply is a result for `id`. */
static inline void client_expect(struct fixture *f, struct client *c, uint32_t id)
{
	_cleanup_(message_freep) struct message *m = client_reply(f, c);

	assert_non_null(m);
	assert_int_equal(message_type(m), MESSAGE_REPLY);
	assert_int_equal(message_id(m), id);
	assert_null(message_error(m));
	assert_non_null(message_result(m));
}

static inline void client_expect_error(struct fixture *f, struct client *c, uint32_t id,
				       const char *code)
{
	_cleanup_(message_freep) struct message *m = client_reply(f, c);

	assert_non_null(m);
	assert_int_equal(message_id(m), id);
	assert_string_equal(value_text(value_get(message_error(m), "code")), code);
	assert_non_null(value_text(value_get(message_error(m), "message")));
}

/* The server closes; nothing more comes. */
static inline void client_expect_end(struct fixture *f, struct client *c)
{
	assert_null(client_reply(f, c));
	assert_int_equal(c->in.len, 0);
}

/* The account of our own uid, to look at. */
static inline struct account fixture_account(struct fixture *f)
{
	struct account *account = account_get(f->accounts, geteuid(), "");
	struct account copy = *account;

	account_put(f->accounts, account);
	return copy;
}
