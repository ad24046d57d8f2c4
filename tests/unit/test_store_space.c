/* Room: pages in use, whatever is free within the file. */
#include "test_store.h"

#include "io/store_audit_prune.h"
#include "io/store_space.h"

static void test_the_state_grows_and_shrinks_in_its_file(void **state)
{
	const struct store_audit_prune what = { INT64_MAX, 1900, 2000 };
	_cleanup_(store_freep) struct store *s = test_open_leading(*state);
	struct store_space before, full, after;
	struct audit_checkpoint c;
	size_t n;

	assert_int_equal(store_space(s, &before), 0);
	assert_true(before.used > 0 && before.size > before.free && before.free > 0);
	assert_int_equal(test_audit_turn(s, 2000), 0);
	assert_int_equal(store_space(s, &full), 0);
	assert_true(full.used > before.used + 300000);
	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_audit_prune(s, &what, &c, &n), 0);
	assert_int_equal(store_commit(s), 0);
	assert_int_equal(store_space(s, &after), 0);
	assert_true(after.used < before.used + 100000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_the_state_grows_and_shrinks_in_its_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
