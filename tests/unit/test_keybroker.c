/* The C client against a server that misbehaves in each way a server can. */
#include "test_fake_broker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "clients/c/call.h"
#include "clients/c/fault.h"
#include "clients/c/wire.h"
#include "proto/message.h"

static void test_acquire_yields_a_key(void **state)
{
	const struct keybroker_request request = { .request_id = "mine" };
	pid_t pid = serve(*state, (enum act[]){ ACT_LEASE, ACT_EMPTY, ACT_END });
	_cleanup_(keybroker_closep) struct keybroker *k = open_client(*state, 5000);
	_cleanup_(keybroker_lease_freep) struct keybroker_lease *l = NULL;

	assert_int_equal(keybroker_acquire(k, &request, &l, NULL), KEYBROKER_OK);
	assert_string_equal(keybroker_lease_api_key(l), "sk-of-the-test");
	assert_string_equal(keybroker_lease_base_url(l), "http://127.0.0.1:4000/v1");
	assert_string_equal(keybroker_lease_id(l), "mine");
	assert_string_equal(keybroker_lease_mode(l), ""); /* absent is empty, never NULL */
	assert_int_equal(keybroker_lease_expires_at_ms(l), 0);
	assert_int_equal(keybroker_release(k, "mine", NULL), KEYBROKER_OK);
	served(pid);
}

/* The repeat carries the id that the first attempt drew: the broker must see one acquire. */
static void test_a_lost_connection_is_repeated_with_the_same_id(void **state)
{
	static const enum act losses[] = { ACT_EOF, ACT_HALF, ACT_NOT_LEADER };

	for (size_t i = 0; i < ARRAY_SIZE(losses); i++) {
		const struct keybroker_request request = { .request_id = "the-same" };
		pid_t pid = serve(*state, (enum act[]){ losses[i], losses[i], ACT_LEASE, ACT_END });
		_cleanup_(keybroker_closep) struct keybroker *k = open_client(*state, 5000);
		_cleanup_(keybroker_lease_freep) struct keybroker_lease *l = NULL;

		assert_int_equal(keybroker_acquire(k, &request, &l, NULL), KEYBROKER_OK);
		assert_string_equal(keybroker_lease_id(l), "the-same");
		served(pid);
	}
}

/* A connection lease too: the broker gives the repeat the lease that the lost reply was about. */
static void test_each_binding_is_asked_for_and_repeated(void **state)
{
	static const char *const binds[] = { "process", "ttl", "connection" };

	for (size_t i = 0; i < ARRAY_SIZE(binds); i++) {
		const struct keybroker_request request = { .bind = (enum keybroker_bind)i,
							   .request_id = "the-same" };
		pid_t pid = serve(*state, (enum act[]){ ACT_EOF, ACT_BOUND, ACT_END });
		_cleanup_(keybroker_closep) struct keybroker *k = open_client(*state, 5000);
		_cleanup_(keybroker_lease_freep) struct keybroker_lease *l = NULL;

		assert_int_equal(keybroker_acquire(k, &request, &l, NULL), KEYBROKER_OK);
		assert_string_equal(keybroker_lease_mode(l), binds[i]);
		assert_string_equal(keybroker_lease_id(l), "the-same");
		assert_int_equal(keybroker_lease_ttl_ms(l), 0);
		served(pid);
	}
}

static void test_what_must_not_happen_twice_is_not_repeated(void **state)
{
	struct keybroker_error e;
	pid_t pid = serve(*state, (enum act[]){ ACT_EOF, ACT_END });
	_cleanup_(keybroker_closep) struct keybroker *k = open_client(*state, 5000);

	assert_int_equal(call_method(k, "rotate", true, &e), KEYBROKER_LOST);
	assert_int_equal(e.code, KEYBROKER_LOST);
	served(pid);
}

/* The first release was done, but its reply got lost: not an error. */
static void test_a_repeated_release_may_find_the_lease_gone(void **state)
{
	pid_t pid = serve(*state,
			  (enum act[]){ ACT_EOF, ACT_UNKNOWN_LEASE, ACT_UNKNOWN_LEASE, ACT_END });
	_cleanup_(keybroker_closep) struct keybroker *k = open_client(*state, 5000);

	assert_int_equal(keybroker_release(k, "l", NULL), KEYBROKER_OK);
	assert_int_equal(keybroker_release(k, "l", NULL), KEYBROKER_UNKNOWN_LEASE);
	served(pid);
}

static void test_a_broker_that_does_not_come_back_is_given_up(void **state)
{
	struct place *p = *state;
	struct keybroker_error e;
	pid_t pid = serve(p, (enum act[]){ ACT_EOF, ACT_END });
	_cleanup_(keybroker_closep) struct keybroker *k = open_client(p, 300);

	fd_close(&p->listen_fd);
	enum keybroker_code code = call_method(k, "whoami", false, &e);
	/* refused when the listener is gone, cut off while it goes */
	assert_true(code == KEYBROKER_UNREACHABLE || code == KEYBROKER_LOST);
	served(pid);
}

static void test_refusals_come_in_the_brokers_words(void **state)
{
	struct keybroker_error e;
	pid_t pid = serve(*state, (enum act[]){ ACT_DENIED, ACT_END });
	_cleanup_(keybroker_closep) struct keybroker *k = open_client(*state, 5000);

	assert_int_equal(call_method(k, "list", false, &e), KEYBROKER_DENIED);
	assert_string_equal(e.message, "no rule for you");
	assert_string_not_equal(e.advice, "");
	assert_int_equal(e.retry_after_ms, -1);
	served(pid);
}

static void test_a_server_that_only_hangs_up_is_given_up(void **state)
{
	enum act acts[100] = { [0 ... 98] = ACT_EOF, [99] = ACT_END };
	struct keybroker_error e;
	int64_t start = wire_now_ms();
	pid_t pid = serve(*state, acts);
	_cleanup_(keybroker_closep) struct keybroker *k = open_client(*state, 20000);

	assert_int_equal(call_method(k, "whoami", false, &e), KEYBROKER_LOST);
	assert_true(wire_now_ms() - start < 10000);
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
}

static void test_garbage_is_named_and_not_repeated(void **state)
{
	static const enum act acts[] = { ACT_GARBAGE, ACT_HUGE };

	for (size_t i = 0; i < ARRAY_SIZE(acts); i++) {
		struct keybroker_error e;
		pid_t pid = serve(*state, (enum act[]){ acts[i], ACT_EMPTY, ACT_END });
		_cleanup_(keybroker_closep) struct keybroker *k = open_client(*state, 5000);

		assert_int_equal(call_method(k, "whoami", false, &e), KEYBROKER_GARBAGE);
		/* the next call gets a connection without the rest of that */
		assert_int_equal(call_method(k, "whoami", false, &e), KEYBROKER_OK);
		served(pid);
	}
}

/* It may be the answer to a request that somebody gave up. */
static void test_a_reply_to_nothing_is_ignored(void **state)
{
	struct keybroker_error e;
	pid_t pid = serve(*state, (enum act[]){ ACT_OTHER_ID, ACT_EMPTY, ACT_END });
	_cleanup_(keybroker_closep) struct keybroker *k = open_client(*state, 100);

	assert_int_equal(call_method(k, "whoami", false, &e), KEYBROKER_TIMEOUT);
	assert_int_equal(call_method(k, "whoami", false, &e), KEYBROKER_OK);
	served(pid);
}

static void test_an_acquire_without_a_key_is_garbage(void **state)
{
	const struct keybroker_request request = { 0 };
	struct keybroker_lease *l = NULL;
	pid_t pid = serve(*state, (enum act[]){ ACT_EMPTY, ACT_END });
	_cleanup_(keybroker_closep) struct keybroker *k = open_client(*state, 5000);

	assert_int_equal(keybroker_acquire(k, &request, &l, NULL), KEYBROKER_GARBAGE);
	assert_null(l);
	served(pid);
}

static void test_notifications_and_small_pieces_are_taken(void **state)
{
	pid_t pid = serve(*state, (enum act[]){ ACT_NOTE_THEN_EMPTY, ACT_END });
	_cleanup_(keybroker_closep) struct keybroker *k = open_client(*state, 5000);

	assert_int_equal(call_method(k, "whoami", false, NULL), KEYBROKER_OK);
	served(pid);
}

static void test_silence_ends_at_the_deadline(void **state)
{
	struct keybroker_error e;
	pid_t pid = serve(*state, (enum act[]){ ACT_SILENCE, ACT_EMPTY, ACT_END });
	_cleanup_(keybroker_closep) struct keybroker *k = open_client(*state, 50);

	assert_int_equal(call_method(k, "whoami", false, &e), KEYBROKER_TIMEOUT);
	keybroker_close(k);
	k = open_client(*state, 5000);
	assert_int_equal(call_method(k, "whoami", false, &e), KEYBROKER_OK);
	served(pid);
}

/* A backlog without a leader accepts, and nobody answers. */
static void test_a_backlog_alone_ends_at_the_deadline(void **state)
{
	struct keybroker_error e;
	_cleanup_(keybroker_closep) struct keybroker *k = open_client(*state, 50);

	assert_int_equal(call_method(k, "whoami", false, &e), KEYBROKER_TIMEOUT);
}

static enum keybroker_code try_open(const char *path, struct keybroker_error *e)
{
	const struct keybroker_options o = { .socket = path, .timeout_ms = 1000 };
	_cleanup_(keybroker_closep) struct keybroker *k = NULL;

	return call_open(&k, &o, false, NULL, e);
}

static void test_no_broker_names_what_was_tried(void **state)
{
	struct place *p = *state;
	struct keybroker_error e;
	char long_path[300];

	fd_close(&p->listen_fd);
	assert_int_equal(try_open(p->path, &e), KEYBROKER_UNREACHABLE);
	assert_int_equal(e.n_tried, 1);
	assert_string_equal(e.tried[0].path, p->path);
	assert_int_equal(e.tried[0].error, ECONNREFUSED);
	assert_non_null(strstr(e.advice, "keybrokerd"));
	memset(long_path, 'x', sizeof(long_path) - 1);
	long_path[sizeof(long_path) - 1] = '\0';
	assert_int_equal(try_open(long_path, &e), KEYBROKER_UNREACHABLE);
	assert_int_equal(e.tried[0].error, ENAMETOOLONG);
}

static void test_a_directory_that_others_can_write_is_refused(void **state)
{
	struct place *p = *state;
	struct keybroker_error e;

	assert_int_equal(chmod(p->dir, 0777), 0);
	assert_int_equal(try_open(p->path, &e), KEYBROKER_UNTRUSTED);
	assert_int_equal(chmod(p->dir, 0770), 0);
	assert_int_equal(try_open(p->path, &e), KEYBROKER_UNTRUSTED);
	assert_int_equal(chmod(p->dir, 01777), 0);
	assert_int_equal(try_open(p->path, &e), KEYBROKER_OK);
	assert_int_equal(chmod(p->dir, 0755), 0);
	assert_int_equal(try_open(p->path, &e), KEYBROKER_OK);
}

static void test_another_users_server_is_refused(void **state)
{
	struct place *p = *state;
	struct keybroker_error e;

	if (geteuid() != 0)
		skip(); /* needs a second uid */
	fd_close(&p->listen_fd);
	assert_int_equal(unlink(p->path), 0);
	assert_int_equal(chown(p->dir, 4321, 4321), 0);
	assert_int_equal(seteuid(4321), 0);
	place_listen(p); /* the kernel keeps the uid of who listens */
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(try_open(p->path, &e), KEYBROKER_UNTRUSTED);
	assert_non_null(strstr(e.message, "4321"));
	(void)setenv("KEYBROKER_SERVER_UID", "4322", 1);
	assert_int_equal(try_open(p->path, &e), KEYBROKER_UNTRUSTED);
	(void)setenv("KEYBROKER_SERVER_UID", "-1", 1);
	assert_int_equal(try_open(p->path, &e), KEYBROKER_UNTRUSTED);
	(void)setenv("KEYBROKER_SERVER_UID", "4321", 1);
	assert_int_equal(try_open(p->path, &e), KEYBROKER_OK);
}

#define CLIENT_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CLIENT_TEST(test_acquire_yields_a_key),
		CLIENT_TEST(test_a_lost_connection_is_repeated_with_the_same_id),
		CLIENT_TEST(test_each_binding_is_asked_for_and_repeated),
		CLIENT_TEST(test_what_must_not_happen_twice_is_not_repeated),
		CLIENT_TEST(test_a_repeated_release_may_find_the_lease_gone),
		CLIENT_TEST(test_a_broker_that_does_not_come_back_is_given_up),
		CLIENT_TEST(test_refusals_come_in_the_brokers_words),
		CLIENT_TEST(test_a_server_that_only_hangs_up_is_given_up),
		CLIENT_TEST(test_garbage_is_named_and_not_repeated),
		CLIENT_TEST(test_a_reply_to_nothing_is_ignored),
		CLIENT_TEST(test_an_acquire_without_a_key_is_garbage),
		CLIENT_TEST(test_notifications_and_small_pieces_are_taken),
		CLIENT_TEST(test_silence_ends_at_the_deadline),
		CLIENT_TEST(test_a_backlog_alone_ends_at_the_deadline),
		CLIENT_TEST(test_no_broker_names_what_was_tried),
		CLIENT_TEST(test_a_directory_that_others_can_write_is_refused),
		CLIENT_TEST(test_another_users_server_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
