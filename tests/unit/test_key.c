/* The states of a key: every step that is allowed, and that no other is; names both ways. */
#include "test.h"

#include "core/key.h"

#define YES true
#define NO false

/* From (row) to (column): intent, live, retiring, burned, deleted. */
static const bool test_steps[KEY_N_STATES][KEY_N_STATES] = {
	/* an intent that upstream refused never was there; a retired one's caller has gone */
	[KEY_INTENT] = { YES, YES, YES, YES, YES },
	[KEY_LIVE] = { NO, YES, YES, NO, YES },
	/* live again if its successor could not be minted */
	[KEY_RETIRING] = { NO, YES, YES, NO, YES },
	[KEY_BURNED] = { NO, NO, NO, YES, YES },
	[KEY_DELETED] = { NO, NO, NO, NO, YES },
};

static void test_the_state_machine_is_this_table(void **state)
{
	(void)state;
	for (int from = 0; from < KEY_N_STATES; from++)
		for (int to = 0; to < KEY_N_STATES; to++)
			if (key_may_change((enum key_state)from, (enum key_state)to) !=
			    test_steps[from][to])
				fail_msg("%s -> %s", key_state_name((enum key_state)from),
					 key_state_name((enum key_state)to));
}

static void test_states_have_names(void **state)
{
	static const char *const names[] = { "intent", "live", "retiring", "burned", "deleted" };

	(void)state;
	assert_int_equal(ARRAY_SIZE(names), KEY_N_STATES);
	for (int i = 0; i < KEY_N_STATES; i++)
		assert_string_equal(key_state_name((enum key_state)i), names[i]);
}

static void test_sources_have_names(void **state)
{
	static const char *const names[] = { "minted", "server_chosen", "imported", "legacy" };

	(void)state;
	assert_int_equal(ARRAY_SIZE(names), KEY_LEGACY + 1);
	for (int i = 0; i <= KEY_LEGACY; i++)
		assert_string_equal(key_source_name((enum key_source)i), names[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_state_machine_is_this_table),
		cmocka_unit_test(test_states_have_names),
		cmocka_unit_test(test_sources_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
