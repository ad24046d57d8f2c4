/* Which lease a repeated acquire finds: never one that is of no more use. */
#include "test_daemon.h"

static void test_begun(void *userdata, int outcome)
{
	assert_int_equal(outcome, 0);
	assert_int_equal(lease_begin(userdata, -1), 0);
}

/* A lease of uid 1000 whose acquire was named "request-2". */
static struct lease *test_grant(struct broker *b, const char *id, const struct holder_id *holder,
				const char *key_id)
{
	struct lease_row row = test_lease(id);
	struct lease *l;
	struct change *c;

	row.uid = 1000;
	row.ends_at_ms = clock_now().wall_ms + 60000;
	row.ends_boot_ms = clock_now().boot_ms + 60000;
	(void)snprintf(row.key_id, sizeof(row.key_id), "%s", key_id);
	if (holder) { /* one that waits for its peer needs no connection here */
		row.bind = LEASE_CONNECTION;
		row.holder_pid = (pid_t)holder->pid;
		row.holder_start = holder->start;
		l = lease_new(&b->d, &row, NULL);
		lease_await(l, -1);
		return l;
	}
	l = lease_new(&b->d, &row, NULL);
	c = change_new(b->d.turn, test_begun, l);
	change_lease(c, l, LEASE_SET_ALL, &l->row);
	change_submit(c);
	assert_int_equal(turn_end(b->d.turn), 0);
	return l;
}

static struct lease *test_find(const struct broker *b, int64_t pid)
{
	const struct holder_id holder = { .pid = pid, .start = 5 };

	const struct peer peer = { .uid = 1000 };

	return leases_find_request(b->d.leases, &peer, holder, "service", "request-2");
}

/* The provider's key of a TTL lease went when its profile got upstream keys. */
static void test_a_stale_ttl_lease_hides_no_other(void **state)
{
	struct broker *b = *state;
	const struct holder_id holder = { .pid = 77, .start = 5 };
	struct profile shared = { .name = "service", .mode = PROFILE_SHARED };
	struct lease *stale = test_grant(b, "lease-1", NULL, "");
	struct lease *fresh = test_grant(b, "lease-2", &holder, "key-1");

	assert_ptr_equal(test_find(b, 77), stale);
	b->config.profiles = &shared;
	b->config.n_profiles = 1;
	assert_true(lease_is_stale(stale));
	assert_ptr_equal(test_find(b, 77), fresh);
	assert_null(test_find(b, 78));
	b->config.n_profiles = 0;
}

static void test_a_ttl_lease_that_ends_hides_no_other(void **state)
{
	struct broker *b = *state;
	const struct holder_id holder = { .pid = 77, .start = 5 };
	struct lease *old = test_grant(b, "lease-1", NULL, "key-1");
	struct lease *fresh = test_grant(b, "lease-2", &holder, "key-1");

	lease_end(old, LEASE_EXPIRED, "expire", NULL, NULL, NULL);
	assert_ptr_equal(test_find(b, 77), fresh);
	assert_int_equal(turn_end(b->d.turn), 0);
	assert_ptr_equal(test_find(b, 77), fresh);
}

/* Its repeat must find the new one, not make a third. */
static void test_the_successor_of_one_that_ends_is_found(void **state)
{
	struct broker *b = *state;
	struct lease *old = test_grant(b, "lease-1", NULL, "key-1");
	struct lease *fresh;

	lease_end(old, LEASE_EXPIRED, "expire", NULL, NULL, NULL);
	fresh = test_grant(b, "lease-2", NULL, "key-1");
	assert_ptr_equal(test_find(b, 77), fresh);
}

/* It could not be written down that it has ended; that does not make it live. */
static void test_a_lease_whose_end_is_due_is_not_found(void **state)
{
	struct broker *b = *state;
	struct lease *l = test_grant(b, "lease-1", NULL, "key-1");

	broker_lock(b);
	lease_end(l, LEASE_REVOKED, "revoke", NULL, NULL, NULL);
	assert_int_equal(turn_end(b->d.turn), 0);
	broker_unlock(b);
	assert_int_equal(leases_count(b->d.leases), 1);
	assert_null(leases_find(b->d.leases, "lease-1"));
	assert_null(test_find(b, 77));
	broker_turn(b);
	assert_int_equal(leases_count(b->d.leases), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BROKER_TEST(test_a_stale_ttl_lease_hides_no_other),
		BROKER_TEST(test_a_ttl_lease_that_ends_hides_no_other),
		BROKER_TEST(test_the_successor_of_one_that_ends_is_found),
		BROKER_TEST(test_a_lease_whose_end_is_due_is_not_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
