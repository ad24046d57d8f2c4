/* Listening: what the broker tells without being asked, and what becomes of it when it goes. */
#include "test_fake_broker.h"

static void expect_event(struct keybroker *k, const char *event)
{
	_cleanup_(message_freep) struct message *m = NULL;

	assert_int_equal(keybroker_listen(k, "audit", &m, NULL), KEYBROKER_OK);
	assert_string_equal(value_text(value_get(message_params(m), "event")), event);
}

/* The deadline is the call's, not the listener's; others than those that are meant are dropped. */
static void test_notifications_are_listened_to(void **state)
{
	struct keybroker_error e;
	struct message *m = NULL;
	pid_t pid = serve(*state, (enum act[]){ ACT_FEED, ACT_EMPTY, ACT_END });
	_cleanup_(keybroker_closep) struct keybroker *k = open_client(*state, 5000);

	assert_int_equal(call_method(k, "audit_follow", false, NULL), KEYBROKER_OK);
	expect_event(k, "first");
	expect_event(k, "second");
	assert_int_equal(keybroker_listen(k, "audit", &m, &e), KEYBROKER_LOST);
	assert_int_equal(e.code, KEYBROKER_LOST);
	assert_null(m);
	assert_int_equal(call_method(k, "whoami", false, NULL), KEYBROKER_OK);
	served(pid);
}

/* Listens in vain, and then has a broker that comes back a moment later. */
static void test_a_listener_gives_the_broker_time_to_come_back(void **state)
{
	struct place *p = *state;
	struct message *m = NULL;
	pid_t pid = serve(p, (enum act[]){ ACT_FEED, ACT_END });
	_cleanup_(keybroker_closep) struct keybroker *k = open_client(p, 20000);

	assert_int_equal(call_method(k, "audit_follow", false, NULL), KEYBROKER_OK);
	expect_event(k, "first");
	expect_event(k, "second");
	assert_int_equal(keybroker_listen(k, "audit", &m, NULL), KEYBROKER_LOST);
	served(pid);
	fd_close(&p->listen_fd);
	assert_int_equal(unlink(p->path), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		wire_pause(300, INT64_MAX); /* the restart takes its time */
		place_listen(p);
		pid = serve(p, (enum act[]){ ACT_EMPTY, ACT_END });
		_exit(waitpid(pid, NULL, 0) == pid ? 0 : 1);
	}
	assert_int_equal(call_method(k, "audit_follow", false, NULL), KEYBROKER_OK);
	served(pid);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_notifications_are_listened_to, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_a_listener_gives_the_broker_time_to_come_back,
						setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
