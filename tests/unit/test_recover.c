/* What a new leader makes of the leases that it finds. */
#include "test_daemon.h"

#include <signal.h>

#include "daemon/recover.h"
#include "daemon/shared.h"
#include "io/process.h"

#define MINUTE_MS 60000

static int recover_setup(void **state)
{
	int r = broker_setup(state);
	struct broker *b = *state;

	b->d.shared = shared_list_new();
	(void)snprintf(b->d.boot_id, sizeof(b->d.boot_id), "this-boot");
	return r;
}

static int recover_teardown(void **state)
{
	struct broker *b = *state;

	shared_list_free(b->d.shared);
	return broker_teardown(state);
}

#define RECOVER_TEST(f) cmocka_unit_test_setup_teardown(f, recover_setup, recover_teardown)

static struct lease_row test_row(const char *id, enum lease_bind bind)
{
	struct lease_row row = test_lease(id);

	row.uid = 1000;
	row.key_id[0] = '\0';
	row.bind = bind;
	if (bind != LEASE_TTL)
		row.ends_at_ms = row.ends_boot_ms = 0;
	return row;
}

static void test_put(const struct broker *b, const struct lease_row *row)
{
	assert_int_equal(store_begin(b->d.store), 0);
	assert_int_equal(store_put_lease(b->d.store, row), 0);
	assert_int_equal(store_commit(b->d.store), 0);
}

static void test_recover(struct broker *b)
{
	assert_int_equal(recover(&b->d), 0);
	assert_int_equal(turn_end(b->d.turn), 0);
}

static void test_a_deadline_of_this_boot_counts(void **state)
{
	struct broker *b = *state;
	struct lease_row row = test_row("lease-1", LEASE_TTL);
	const struct lease *l;

	row.ends_boot_ms = clock_now().boot_ms + MINUTE_MS;
	row.ends_at_ms = 5; /* long over, by a clock that was set */
	test_put(b, &row);
	test_recover(b);
	l = leases_find(b->d.leases, "lease-1");
	assert_non_null(l);
	assert_int_equal(l->ends_boot_ms, row.ends_boot_ms);
	assert_int_equal(broker_count(b, "SELECT ends_at_ms FROM lease"), 5);
}

/* Only the wall clock lasts from one boot to the next; from there on the new boot's clock counts.
 */
static void test_a_deadline_of_another_boot_is_made_anew(void **state)
{
	struct broker *b = *state;
	struct lease_row row = test_row("lease-1", LEASE_TTL);
	int64_t boot_ms = clock_now().boot_ms;

	(void)snprintf(row.boot_id, sizeof(row.boot_id), "that-boot");
	row.ends_boot_ms = boot_ms + 500 * MINUTE_MS;
	row.ends_at_ms = clock_now().wall_ms + MINUTE_MS;
	test_put(b, &row);
	(void)snprintf(row.id, sizeof(row.id), "lease-2");
	row.ends_boot_ms = 0; /* of a version that had none */
	(void)snprintf(row.boot_id, sizeof(row.boot_id), "this-boot");
	test_put(b, &row);
	test_recover(b);
	for (const struct lease *l = leases_first(b->d.leases); l; l = leases_next(l))
		assert_true(l->ends_boot_ms >= boot_ms + MINUTE_MS - 1000 &&
			    l->ends_boot_ms <= boot_ms + MINUTE_MS + 10000);
	assert_int_equal(leases_count(b->d.leases), 2);
	assert_int_equal(
		broker_count(
			b, "SELECT count(*) FROM lease WHERE boot_id = 'this-boot' AND ends_boot_ms"
			   " BETWEEN 1 AND (SELECT min(ends_boot_ms) FROM lease) + 1000"),
		2);
}

static void test_a_lease_that_ended_meanwhile_ends(void **state)
{
	struct broker *b = *state;
	struct lease_row row = test_row("lease-1", LEASE_TTL);

	row.ends_boot_ms = 1;
	test_put(b, &row);
	(void)snprintf(row.id, sizeof(row.id), "lease-2");
	(void)snprintf(row.boot_id, sizeof(row.boot_id), "that-boot");
	row.ends_at_ms = 1; /* before this boot began */
	test_put(b, &row);
	test_recover(b);
	while (leases_count(b->d.leases) > 0)
		broker_turn(b);
	assert_int_equal(broker_count(b, "SELECT count(*) FROM lease WHERE state = 'expired'"), 2);
}

/* A connection lease and one of a foreign pid namespace wait; a process lease's process is seen. */
static void test_who_cannot_be_seen_has_time_to_come_back(void **state)
{
	struct broker *b = *state;
	struct lease_row row = test_row("connection", LEASE_CONNECTION);
	const pid_t child = fork();

	if (child == 0)
		for (;;)
			(void)pause();
	row.holder_pid = row.pid = child;
	assert_int_equal(process_start_time(child, &row.holder_start), 0);
	test_put(b, &row);
	row = test_row("foreign", LEASE_PROCESS);
	row.pid = row.holder_pid = 0;
	test_put(b, &row);
	b->config.timing.takeover_ms = 300;
	test_recover(b);
	assert_int_equal(leases_count(b->d.leases), 2);
	broker_turn(b);
	while (leases_count(b->d.leases) > 0)
		broker_turn(b);
	assert_int_equal(broker_count(b, "SELECT count(*) FROM audit WHERE event = 'release' AND"
					 " detail LIKE '%not taken up%'"),
			 2);
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
}

/* What a boot has ended nobody takes up. */
static void test_leases_of_another_boot_end(void **state)
{
	static const enum lease_bind binds[] = { LEASE_CONNECTION, LEASE_PROCESS, LEASE_PROCESS };
	struct broker *b = *state;

	for (int i = 0; i < 3; i++) {
		char id[16];

		(void)snprintf(id, sizeof(id), "lease-%d", i);
		struct lease_row row = test_row(id, binds[i]);
		(void)snprintf(row.boot_id, sizeof(row.boot_id), "that-boot");
		row.pid = row.holder_pid = i == 2 ? 0 : getpid();
		assert_int_equal(process_start_time(getpid(), &row.holder_start), 0);
		test_put(b, &row);
	}
	test_recover(b);
	assert_int_equal(leases_count(b->d.leases), 0);
	assert_int_equal(broker_count(b, "SELECT count(*) FROM lease WHERE state = 'released'"), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RECOVER_TEST(test_a_deadline_of_this_boot_counts),
		RECOVER_TEST(test_a_deadline_of_another_boot_is_made_anew),
		RECOVER_TEST(test_a_lease_that_ended_meanwhile_ends),
		RECOVER_TEST(test_who_cannot_be_seen_has_time_to_come_back),
		RECOVER_TEST(test_leases_of_another_boot_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
