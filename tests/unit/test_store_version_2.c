/* A state of schema version 2 becomes one of version 3 at the claim. */
#include "test_store.h"

#include "io/store_internal.h"

static void test_put(struct store *s, const struct lease_row *row)
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
static void test_a_lease_of_version_2_comes_back(void **state)
{
	const struct place *p = *state;
	struct store *s = test_open_leading(p);
	struct lease_row row = test_lease("lease-1"), found = { 0 };

	test_put(s, &row);
	assert_int_equal(sqlite3_exec(s->turn.db,
				      "ALTER TABLE lease DROP COLUMN ends_boot_ms;"
				      "UPDATE meta SET value = '2' WHERE name = 'schema'",
				      NULL, NULL, NULL),
			 SQLITE_OK);
	store_free(s);
	s = test_open_leading(p);
	assert_int_equal(store_each_lease(s, test_keep, &found), 0);
	assert_string_equal(found.id, "lease-1");
	assert_int_equal(found.ends_at_ms, row.ends_at_ms);
	assert_int_equal(found.ends_boot_ms, 0);
	test_put(s, &row);
	assert_int_equal(store_each_lease(s, test_keep, &found), 0);
	assert_int_equal(found.ends_boot_ms, row.ends_boot_ms);
	store_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_a_lease_of_version_2_comes_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
