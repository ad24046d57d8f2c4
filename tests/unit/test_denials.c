/*
 * Refusals in the audit: the first of a minute is on the disk before its reply leaves, the others
 * are counted, and a count is never lost to a failed commit.
 */
#include "test_daemon.h"
#include "test_server_expect.h"

/* A server on the broker's own loop; each method is the name of a profile that is refused. */
struct refusing {
	struct broker *b;
	struct fixture f;
	struct client c;
};

static void refusing_handle(void *userdata, struct request *r)
{
	struct refusing *x = userdata;

	denials_answer(&x->b->d, r, message_method(r->message));
}

static int refusing_setup(void **state)
{
	struct refusing *x = calloc(1, sizeof(*x));
	void *b = NULL;
	int fd = -1;

	assert_non_null(x);
	assert_int_equal(broker_setup(&b), 0);
	x->b = b;
	x->f.base = x->b->d.base;
	TAILQ_INIT(&x->f.waiting);
	TAILQ_INIT(&x->f.turn_end);
	assert_in_range(snprintf(x->f.path, sizeof(x->f.path), "%s/s", x->b->place->root), 1,
			sizeof(x->f.path) - 1);
	assert_int_equal(socket_listen(x->f.path, 0700, 0600, (gid_t)-1, &fd), 0);
	assert_int_equal(server_new(&x->f.server, x->f.base, x->b->d.accounts, refusing_handle, x),
			 0);
	server_set_limits(x->f.server, &fixture_limits);
	assert_int_equal(server_listen(x->f.server, fd, false), 0);
	x->c = client_connect(&x->f);
	*state = x;
	return 0;
}

static int refusing_teardown(void **state)
{
	struct refusing *x = *state;
	void *b = x->b;

	client_close(&x->c);
	server_free(x->f.server);
	free(x);
	return broker_teardown(&b);
}

#define DENIALS_TEST(f) cmocka_unit_test_setup_teardown(f, refusing_setup, refusing_teardown)

/* Turns, committed as the daemon does, until the next reply is there: it has this code. */
static void test_expect(struct refusing *x, uint32_t id, const char *code)
{
	_cleanup_(message_freep) struct message *m = NULL;

	while (!m) {
		fixture_turn(&x->f);
		assert_int_equal(turn_end(x->b->d.turn), 0);
		m = client_take(&x->c);
	}
	assert_int_equal(message_id(m), id);
	assert_string_equal(value_text(value_get(message_error(m), "code")), code);
}

static void test_ask(struct refusing *x, uint32_t id, const char *profile, const char *code)
{
	client_request(&x->c, id, profile);
	test_expect(x, id, code);
}

static int64_t test_rows(const struct refusing *x, const char *where)
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
	struct refusing *x = *state;

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
	struct refusing *x = *state;

	test_ask(x, 1, "service", "denied");
	test_ask(x, 2, "process", "denied");
	test_ask(x, 3, "service", "denied");
	assert_int_equal(test_rows(x, "profile = 'service'"), 1);
	assert_int_equal(test_rows(x, "profile = 'process'"), 1);
}

static void test_rows_name_the_peer(void **state)
{
	struct refusing *x = *state;
	char where[64];

	test_ask(x, 1, "service", "denied");
	(void)snprintf(where, sizeof(where), "uid = %u AND gid = %u AND pid = %d", geteuid(),
		       getegid(), (int)getpid());
	assert_int_equal(test_rows(x, where), 1);
}

/* The reply waits for the commit. */
static void test_no_reply_leaves_before_the_row(void **state)
{
	struct refusing *x = *state;

	client_request(&x->c, 1, "service");
	for (int i = 0; i < 20; i++) {
		fixture_turn(&x->f);
		assert_null(client_take(&x->c));
	}
	assert_int_equal(test_rows(x, "1"), 0);
	test_expect(x, 1, "denied");
	assert_int_equal(test_rows(x, "1"), 1);
}

/* What was not written down was not the first: the next one is. */
static void test_a_first_that_cannot_be_written_does_not_count(void **state)
{
	struct refusing *x = *state;

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
	struct refusing *x = *state;

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		DENIALS_TEST(test_the_first_is_a_row_and_the_others_a_count),
		DENIALS_TEST(test_each_profile_counts_for_itself),
		DENIALS_TEST(test_rows_name_the_peer),
		DENIALS_TEST(test_no_reply_leaves_before_the_row),
		DENIALS_TEST(test_a_first_that_cannot_be_written_does_not_count),
		DENIALS_TEST(test_a_peer_that_has_gone_is_recorded_all_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
