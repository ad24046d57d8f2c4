/* States of earlier versions: brought up to date when they are led, with what is in them. */
#include "test_store.h"

#include "io/store_internal.h"

static void test_exec(const struct store *s, const char *sql)
{
	assert_int_equal(sqlite3_exec(s->turn.db, sql, NULL, NULL, NULL), SQLITE_OK);
}

/* Its keys are of no pool. */
static void test_a_state_of_version_2(void **state)
{
	const struct place *p = *state;
	struct store *s = test_open_leading(p);
	struct key_row row = test_key("key-1"), found;

	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_put_key(s, &row, NULL), 0);
	assert_int_equal(store_commit(s), 0);
	test_exec(s, "ALTER TABLE key DROP COLUMN settings;"
		     "ALTER TABLE key DROP COLUMN dead;"
		     "UPDATE meta SET value = '2' WHERE name = 'schema'");
	store_free(s);
	s = test_open_leading(p);
	assert_int_equal(store_key_by_hash(s, row.hash, &found), 0);
	assert_string_equal(found.id, "key-1");
	assert_string_equal(found.settings, "");
	store_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_a_state_of_version_2),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
