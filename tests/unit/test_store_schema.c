/* States of earlier versions: brought up to date when they are led, with what is in them. */
#include "test_store.h"

#include "io/store_internal.h"

static void test_exec(const struct store *s, const char *sql)
{
	assert_int_equal(sqlite3_exec(s->turn.db, sql, NULL, NULL, NULL), SQLITE_OK);
}

/* Its keys are of no pool. */
static void test_a_key_of_version_2(void **state)
{
	const struct place *p = *state;
	struct store *s = test_open_leading(p);
	struct key_row row = test_key("key-1"), found;

	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_put_key(s, &row, NULL), 0);
	assert_int_equal(store_commit(s), 0);
	test_exec(s, TEST_WITHOUT_VERSION_3 "UPDATE meta SET value = '2' WHERE name = 'schema'");
	store_free(s);
	s = test_open_leading(p);
	assert_int_equal(store_key_by_hash(s, row.hash, &found), 0);
	assert_string_equal(found.id, "key-1");
	assert_string_equal(found.settings, "");
	store_free(s);
}

static void test_put_lease(struct store *s, const struct lease_row *row)
{
	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_put_lease(s, row), 0);
	assert_int_equal(store_commit(s), 0);
}

static int test_keep(const struct lease_row *row, void *userdata)
{
	*(struct lease_row *)userdata = *row;
	return 0;
}

/* Its leases have no deadline by the boot's clock. */
static void test_a_lease_of_version_2(void **state)
{
	const struct place *p = *state;
	struct store *s = test_open_leading(p);
	struct lease_row row = test_lease("lease-1"), found = { 0 };

	test_put_lease(s, &row);
	test_exec(s, TEST_WITHOUT_VERSION_3 "UPDATE meta SET value = '2' WHERE name = 'schema'");
	store_free(s);
	s = test_open_leading(p);
	assert_int_equal(store_each_lease(s, test_keep, &found), 0);
	assert_string_equal(found.id, "lease-1");
	assert_int_equal(found.ends_at_ms, row.ends_at_ms);
	assert_int_equal(found.ends_boot_ms, 0);
	test_put_lease(s, &row);
	assert_int_equal(store_each_lease(s, test_keep, &found), 0);
	assert_int_equal(found.ends_boot_ms, row.ends_boot_ms);
	store_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_a_key_of_version_2),
		STORE_TEST(test_a_lease_of_version_2),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
