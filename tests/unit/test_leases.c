/*
 * Active leases: each ends by its own reason, once, in a commit that takes a dedicated key along,
 * and what could not be written down has not happened.
 */
#include "test_daemon.h"

#include <signal.h>

#include "io/process.h"

/* A process to hold leases, which ends when it is told to. */
struct holding {
	pid_t pid;
	int pidfd;
};

static struct holding test_process(void)
{
	struct holding h = { .pid = fork() };

	assert_true(h.pid >= 0);
	if (h.pid == 0)
		for (;;)
			(void)pause();
	h.pidfd = process_open(h.pid);
	assert_true(h.pidfd >= 0);
	return h;
}

static void test_process_end(struct holding *h)
{
	assert_int_equal(kill(h->pid, SIGKILL), 0);
	assert_int_equal(waitpid(h->pid, NULL, 0), h->pid);
}

/* The lease that this peer's acquire with the request_id got before. */
static struct lease *test_find(const struct leases *leases, const struct peer *p,
			       const char *profile, const char *request_id)
{
	const struct holder_id holder = { .pid = p->pid, .start = p->start_time };

	return leases_find_request(leases, p, holder, profile, request_id);
}

/* What carries a lease through its grant. */
struct grant {
	struct lease *lease;
	int pidfd, begun;
};

static void test_granted(void *userdata, int outcome)
{
	struct grant *g = userdata;

	g->begun = outcome ? outcome : lease_begin(g->lease, g->pidfd);
}

/* Grants it as acquire does; what lease_begin() said, or the failed commit's outcome. */
static int test_grant(struct broker *b, const struct lease_row *row, struct key *k, int pidfd,
		      struct lease **ret)
{
	struct grant g = { .lease = lease_new(&b->d, row, k), .pidfd = pidfd, .begun = 1 };
	struct change *c = change_new(b->d.turn, test_granted, &g);

	change_lease(c, g.lease, LEASE_SET_ALL, &g.lease->row);
	change_submit(c);
	assert_int_equal(turn_end(b->d.turn), 0);
	if (ret)
		*ret = g.lease;
	return g.begun;
}

static struct lease_row test_process_lease(const char *id, pid_t pid)
{
	struct lease_row row = test_lease(id);

	row.bind = LEASE_PROCESS;
	row.uid = 1000;
	row.pid = row.holder_pid = pid;
	row.ends_at_ms = 0;
	return row;
}

/* A TTL lease that is over in `ms`. */
static struct lease_row test_ttl_lease(const char *id, int64_t ms)
{
	struct lease_row row = test_lease(id);

	row.uid = 1000;
	row.ends_at_ms = clock_now().wall_ms + ms;
	row.ends_boot_ms = clock_now().boot_ms + ms;
	return row;
}

static int64_t test_in_state(const struct broker *b, const char *state)
{
	char sql[128];

	(void)snprintf(sql, sizeof(sql), "SELECT count(*) FROM lease WHERE state = '%s'", state);
	return broker_count(b, sql);
}

static int64_t test_charged(struct broker *b)
{
	struct account *account = account_get(b->d.accounts, 1000, "");
	int64_t n = account->leases;

	account_put(b->d.accounts, account);
	return n;
}

static void test_a_process_lease_ends_with_its_process(void **state)
{
	struct broker *b = *state;
	struct key *k = broker_key(b, "key-1", PROFILE_SHARED);
	struct holding p = test_process(), q = test_process();
	struct lease_row one = test_process_lease("lease-1", p.pid);
	struct lease_row two = test_process_lease("lease-2", p.pid);
	struct lease_row other = test_process_lease("lease-3", q.pid);

	two.refreshable = false;
	assert_int_equal(test_grant(b, &one, k, p.pidfd, NULL), 0);
	assert_int_equal(test_grant(b, &two, k, p.pidfd, NULL), 0);
	assert_int_equal(test_grant(b, &other, k, q.pidfd, NULL), 0);
	(void)close(p.pidfd); /* the lease has a descriptor of its own */
	assert_int_equal(leases_count(b->d.leases), 3);
	assert_int_equal(test_charged(b), 3);
	assert_true(k->n_leases == 3 && k->n_fixed == 1);
	assert_int_equal(test_in_state(b, "active"), 3);
	test_process_end(&p);
	broker_turn(b);
	assert_int_equal(leases_count(b->d.leases), 1);
	assert_non_null(leases_find(b->d.leases, "lease-3"));
	assert_null(leases_find(b->d.leases, "lease-1"));
	assert_int_equal(test_charged(b), 1);
	assert_true(k->n_leases == 1 && k->n_fixed == 0);
	assert_int_equal(test_in_state(b, "released"), 2);
	assert_int_equal(broker_count(b, "SELECT count(*) FROM audit WHERE event = 'release'"), 2);
	assert_int_equal(k->row.state, KEY_LIVE); /* a shared one stays */
	test_process_end(&q);
	(void)close(q.pidfd);
}

static void test_a_process_that_has_gone_holds_nothing(void **state)
{
	struct broker *b = *state;
	struct holding p = test_process();
	struct lease_row row = test_process_lease("lease-1", p.pid);
	struct lease *l;

	test_process_end(&p);
	assert_int_equal(test_grant(b, &row, NULL, p.pidfd, &l), -ESRCH);
	assert_int_equal(test_charged(b), 1);
	lease_end(l, LEASE_RELEASED, "release", NULL, NULL, NULL); /* as the caller must */
	assert_int_equal(turn_end(b->d.turn), 0);
	assert_int_equal(leases_count(b->d.leases), 0);
	assert_int_equal(test_charged(b), 0);
	assert_int_equal(test_in_state(b, "released"), 1);
	row = test_process_lease("lease-2", p.pid);
	assert_int_equal(test_grant(b, &row, NULL, -1, &l), -ESRCH);
	lease_end(l, LEASE_RELEASED, "release", NULL, NULL, NULL);
	assert_int_equal(turn_end(b->d.turn), 0);
	(void)close(p.pidfd);
}

static void test_a_grant_that_is_not_stored_leaves_nothing(void **state)
{
	struct broker *b = *state;
	struct key *k = broker_key(b, "key-1", PROFILE_SHARED);
	struct lease_row row = test_ttl_lease("lease-1", 60000);

	broker_lock(b);
	assert_int_equal(test_grant(b, &row, k, -1, NULL), STORE_E_BUSY);
	broker_unlock(b);
	assert_int_equal(leases_count(b->d.leases), 0);
	assert_int_equal(test_charged(b), 0);
	assert_true(k->n_leases == 0 && k->pins == 0);
	assert_int_equal(broker_count(b, "SELECT count(*) FROM lease"), 0);
}

static void test_a_ttl_lease_ends_when_its_time_is_over(void **state)
{
	struct broker *b = *state;
	struct lease_row soon = test_ttl_lease("lease-1", 30);
	struct lease_row later = test_ttl_lease("lease-2", 3600000);

	assert_int_equal(test_grant(b, &soon, NULL, -1, NULL), 0);
	assert_int_equal(test_grant(b, &later, NULL, -1, NULL), 0);
	broker_turn(b);
	assert_true(clock_now().wall_ms >= soon.ends_at_ms);
	assert_int_equal(leases_count(b->d.leases), 1);
	assert_non_null(leases_find(b->d.leases, "lease-2"));
	assert_int_equal(test_in_state(b, "expired"), 1);
	assert_int_equal(broker_count(b, "SELECT count(*) FROM audit WHERE event = 'expire' AND"
					 " detail = 'its time was over' AND lease = 'lease-1'"),
			 1);
}

/* The timer that is armed fires at the old end; then the new one counts. */
static void test_a_renewed_lease_lives_on(void **state)
{
	struct broker *b = *state;
	struct lease_row row = test_ttl_lease("lease-1", 20), to = { 0 };
	struct change *c = change_new(b->d.turn, NULL, NULL);
	struct lease *l;

	assert_int_equal(test_grant(b, &row, NULL, -1, &l), 0);
	to.ends_at_ms = row.ends_at_ms + 60;
	to.ends_boot_ms = row.ends_boot_ms + 60;
	change_lease(c, l, LEASE_SET_ENDS_AT, &to);
	change_submit(c);
	assert_int_equal(turn_end(b->d.turn), 0);
	while (leases_count(b->d.leases) > 0)
		broker_turn(b);
	assert_true(clock_now().wall_ms >= to.ends_at_ms);
	assert_int_equal(test_in_state(b, "expired"), 1);
}

static void test_the_last_lease_takes_its_dedicated_key_along(void **state)
{
	struct broker *b = *state;
	struct key *k = broker_key(b, "key-1", PROFILE_DEDICATED);
	struct lease_row one = test_ttl_lease("lease-1", 60000);
	struct lease_row two = test_ttl_lease("lease-2", 60000);
	struct lease *l, *last;

	assert_int_equal(test_grant(b, &one, k, -1, &l), 0);
	assert_int_equal(test_grant(b, &two, k, -1, &last), 0);
	lease_end(l, LEASE_RELEASED, "release", NULL, NULL, NULL);
	assert_int_equal(turn_end(b->d.turn), 0);
	assert_int_equal(k->row.state, KEY_LIVE);
	broker_lock(b);
	lease_end(last, LEASE_REVOKED, "revoke", NULL, NULL, NULL);
	assert_int_equal(turn_end(b->d.turn), 0);
	broker_unlock(b);
	assert_int_equal(k->row.state, KEY_LIVE); /* neither lease nor key */
	assert_int_equal(k->n_leases, 1);
	lease_end(last, LEASE_REVOKED, "revoke", NULL, NULL, NULL);
	assert_int_equal(turn_end(b->d.turn), 0);
	assert_int_equal(k->row.state, KEY_RETIRING);
	assert_int_equal(k->row.delete_at_ms, k->row.changed_at_ms); /* at once */
	assert_int_equal(k->n_leases, 0);
	assert_int_equal(k->pins, 0);
	assert_int_equal(broker_count(b, "SELECT count(*) FROM key WHERE state = 'retiring'"), 1);
}

/* Both in one turn: neither is the last when the first one ends. */
static void test_two_leases_of_a_key_end_in_one_turn(void **state)
{
	struct broker *b = *state;
	struct key *k = broker_key(b, "key-1", PROFILE_DEDICATED);
	struct lease_row rows[] = { test_ttl_lease("lease-1", 60000),
				    test_ttl_lease("lease-2", 60000) };
	struct lease *leases[2];

	for (size_t i = 0; i < 2; i++)
		assert_int_equal(test_grant(b, &rows[i], k, -1, &leases[i]), 0);
	for (size_t i = 0; i < 2; i++)
		lease_end(leases[i], LEASE_RELEASED, "release", NULL, NULL, NULL);
	assert_int_equal(turn_end(b->d.turn), 0);
	assert_int_equal(k->row.state, KEY_RETIRING);
	assert_int_equal(test_in_state(b, "released"), 2);
}

static void test_outcome(void *userdata, int outcome)
{
	*(int *)userdata = outcome;
}

static void test_a_lease_that_is_ending_is_not_found(void **state)
{
	struct broker *b = *state;
	struct lease_row row = test_ttl_lease("lease-1", 60000);
	const struct peer peer = { .uid = 1000, .gid = 1001, .pid = 77 };
	int outcome = -1;
	struct lease *l;

	assert_int_equal(test_grant(b, &row, NULL, -1, &l), 0);
	assert_ptr_equal(leases_find(b->d.leases, "lease-1"), l);
	assert_ptr_equal(test_find(b->d.leases, &peer, "service", "request-2"), l);
	lease_end(l, LEASE_RELEASED, "release", &peer, test_outcome, &outcome);
	lease_end(l, LEASE_REVOKED, "revoke", NULL, NULL, NULL); /* it ends once */
	assert_null(leases_find(b->d.leases, "lease-1"));
	assert_null(test_find(b->d.leases, &peer, "service", "request-2"));
	broker_lock(b);
	assert_int_equal(turn_end(b->d.turn), 0);
	broker_unlock(b);
	assert_int_equal(outcome, STORE_E_BUSY);
	assert_ptr_equal(leases_find(b->d.leases, "lease-1"), l); /* nothing has happened */
	lease_end(l, LEASE_RELEASED, "release", &peer, test_outcome, &outcome);
	assert_int_equal(turn_end(b->d.turn), 0);
	assert_int_equal(outcome, 0);
	assert_null(leases_find(b->d.leases, "lease-1"));
	assert_int_equal(broker_count(b, "SELECT count(*) FROM audit"), 1);
	assert_int_equal(broker_count(b, "SELECT count(*) FROM audit WHERE uid = 1000 AND pid = 77"
					 " AND detail = ''"),
			 1);
}

/* Ends that come by themselves are tried until they are written down, as what they were. */
static void test_an_end_that_cannot_be_written_is_tried_again(void **state)
{
	struct broker *b = *state;
	struct lease_row row = test_ttl_lease("lease-1", 3600000);
	struct lease *l;

	assert_int_equal(test_grant(b, &row, NULL, -1, &l), 0);
	broker_lock(b);
	lease_end(l, LEASE_REVOKED, "revoke", NULL, NULL, NULL);
	assert_int_equal(turn_end(b->d.turn), 0);
	broker_unlock(b);
	assert_int_equal(leases_count(b->d.leases), 1);
	broker_turn(b); /* the retry: its own time is an hour away */
	assert_int_equal(leases_count(b->d.leases), 0);
	assert_int_equal(test_in_state(b, "revoked"), 1);
	assert_int_equal(broker_count(b, "SELECT count(*) FROM audit WHERE event = 'revoke' AND"
					 " detail = 'its key is gone'"),
			 1);
}

/* A revocation that its admin was told has failed is not carried out later. */
static void test_an_end_that_someone_asked_for_is_not(void **state)
{
	struct broker *b = *state;
	const struct peer admin = { .uid = 0, .pid = 1 };
	struct holding p = test_process();
	struct lease_row row = test_process_lease("lease-1", p.pid);
	struct lease *l;

	assert_int_equal(test_grant(b, &row, NULL, p.pidfd, &l), 0);
	broker_lock(b);
	lease_end(l, LEASE_REVOKED, "revoke", &admin, NULL, NULL);
	assert_int_equal(turn_end(b->d.turn), 0);
	broker_unlock(b);
	assert_ptr_equal(leases_find(b->d.leases, "lease-1"), l);
	assert_true(!l->timer || !evtimer_pending(l->timer, NULL));
	test_process_end(&p);
	broker_turn(b);
	assert_int_equal(test_in_state(b, "released"), 1);
	(void)close(p.pidfd);
}

/* A process says goodbye and is gone: if the goodbye can't be written down, the end still counts.
 */
static void test_a_process_that_ends_while_its_release_fails(void **state)
{
	struct broker *b = *state;
	struct holding p = test_process();
	struct lease_row row = test_process_lease("lease-1", p.pid);
	const struct peer peer = { .uid = 1000, .pid = p.pid };
	int outcome = 0;
	struct lease *l;

	assert_int_equal(test_grant(b, &row, NULL, p.pidfd, &l), 0);
	broker_lock(b);
	lease_end(l, LEASE_RELEASED, "release", &peer, test_outcome, &outcome);
	test_process_end(&p);
	broker_turn(b);
	broker_unlock(b);
	assert_int_equal(outcome, STORE_E_BUSY);
	assert_int_equal(leases_count(b->d.leases), 1);
	assert_non_null(l->timer);
	broker_turn(b);
	assert_int_equal(leases_count(b->d.leases), 0);
	assert_int_equal(test_in_state(b, "released"), 1);
	(void)close(p.pidfd);
}

static void test_a_lease_belongs_to_its_uid_and_process(void **state)
{
	struct lease l = {
		.row = { .uid = 1000, .bind = LEASE_PROCESS, .holder_pid = 77, .holder_start = 5 }
	};
	struct peer peer = { .uid = 1000, .pid = 77, .start_time = 5 };

	(void)state;
	assert_true(lease_is_of(&l, &peer));
	peer.start_time = 6; /* the pid was used again */
	assert_false(lease_is_of(&l, &peer));
	peer.start_time = 5;
	peer.pid = 78;
	assert_false(lease_is_of(&l, &peer));
	l.row.bind = LEASE_TTL;
	assert_true(lease_is_of(&l, &peer));
	peer.uid = 0;
	assert_false(lease_is_of(&l, &peer));
	peer.pid = 77;
	l.row.bind = LEASE_PROCESS;
	assert_false(lease_is_of(&l, &peer));
}

/* The same request of another process is another request; that of a TTL lease is its uid's. */
static void test_a_repeated_request_finds_its_lease(void **state)
{
	struct broker *b = *state;
	struct holding p = test_process();
	struct lease_row mine = test_process_lease("lease-1", p.pid);
	struct lease_row ttl = test_ttl_lease("lease-2", 60000);
	struct peer peer = { .uid = 1000, .pid = p.pid, .start_time = mine.holder_start };
	const struct leases *leases = b->d.leases;
	struct lease *l, *t;

	(void)snprintf(ttl.request_id, sizeof(ttl.request_id), "request-3");
	assert_int_equal(test_grant(b, &mine, NULL, p.pidfd, &l), 0);
	assert_int_equal(test_grant(b, &ttl, NULL, -1, &t), 0);
	assert_ptr_equal(test_find(leases, &peer, "service", "request-2"), l);
	assert_ptr_equal(test_find(leases, &peer, "service", "request-3"), t);
	assert_null(test_find(leases, &peer, "process", "request-2"));
	assert_null(test_find(leases, &peer, "service", "request-4"));
	peer.start_time++;
	assert_null(test_find(leases, &peer, "service", "request-2"));
	assert_ptr_equal(test_find(leases, &peer, "service", "request-3"), t);
	peer.start_time--;
	peer.uid = 1001;
	assert_null(test_find(leases, &peer, "service", "request-2"));
	assert_null(test_find(leases, &peer, "service", "request-3"));
	test_process_end(&p);
	(void)close(p.pidfd);
}

static void test_a_lease_moves_to_another_key(void **state)
{
	struct broker *b = *state;
	struct key *old = broker_key(b, "key-1", PROFILE_SHARED);
	struct key *next = broker_key(b, "key-2", PROFILE_SHARED);
	struct lease_row row = test_ttl_lease("lease-1", 60000);
	struct lease *l;

	row.refreshable = false;
	assert_int_equal(test_grant(b, &row, old, -1, &l), 0);
	lease_move(l, old);
	assert_true(old->n_leases == 1 && old->n_fixed == 1 && old->pins == 1);
	lease_move(l, next);
	assert_ptr_equal(l->key, next);
	assert_true(old->n_leases == 0 && old->n_fixed == 0 && old->pins == 0);
	assert_true(next->n_leases == 1 && next->n_fixed == 1 && next->pins == 1);
}

static void test_all_leases_can_be_walked(void **state)
{
	struct broker *b = *state;
	size_t n = 0;

	for (int i = 0; i < 5; i++) {
		char id[16];

		(void)snprintf(id, sizeof(id), "lease-%d", i);
		struct lease_row row = test_ttl_lease(id, 60000);
		assert_int_equal(test_grant(b, &row, NULL, -1, NULL), 0);
	}
	for (const struct lease *l = leases_first(b->d.leases); l; l = leases_next(l))
		n++;
	assert_int_equal(n, 5);
	assert_int_equal(leases_count(b->d.leases), 5);
	assert_null(leases_find(b->d.leases, "lease-5"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BROKER_TEST(test_a_process_lease_ends_with_its_process),
		BROKER_TEST(test_a_process_that_has_gone_holds_nothing),
		BROKER_TEST(test_a_grant_that_is_not_stored_leaves_nothing),
		BROKER_TEST(test_a_ttl_lease_ends_when_its_time_is_over),
		BROKER_TEST(test_a_renewed_lease_lives_on),
		BROKER_TEST(test_the_last_lease_takes_its_dedicated_key_along),
		BROKER_TEST(test_two_leases_of_a_key_end_in_one_turn),
		BROKER_TEST(test_a_lease_that_is_ending_is_not_found),
		BROKER_TEST(test_an_end_that_cannot_be_written_is_tried_again),
		BROKER_TEST(test_an_end_that_someone_asked_for_is_not),
		BROKER_TEST(test_a_process_that_ends_while_its_release_fails),
		cmocka_unit_test(test_a_lease_belongs_to_its_uid_and_process),
		BROKER_TEST(test_a_repeated_request_finds_its_lease),
		BROKER_TEST(test_a_lease_moves_to_another_key),
		BROKER_TEST(test_all_leases_can_be_walked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
