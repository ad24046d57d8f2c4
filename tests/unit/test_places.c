/* Whose turn it is: many calls of one party don't hold up those of another. */
#include "test.h"

#include "daemon/places.h"

#define N 4

static void test_a_party_may_have_all_places_but_one(void **state)
{
	_cleanup_(places_freep) struct places *all = places_new(N);
	struct place a[N] = { 0 }, b = { 0 };

	(void)state;
	for (int i = 0; i < N - 1; i++)
		assert_true(place_take(all, &a[i], 1, false));
	assert_false(place_take(all, &a[N - 1], 1, false));
	assert_true(place_take(all, &b, 2, false)); /* it is for who has none */
	assert_null(place_leave(all, &b));	    /* and stays so */
	assert_ptr_equal(place_leave(all, &a[0]), &a[N - 1]);
	for (int i = 1; i < N; i++)
		assert_null(place_leave(all, &a[i]));
}

static void test_parties_take_turns(void **state)
{
	_cleanup_(places_freep) struct places *all = places_new(N);
	struct place hold[N] = { 0 }, a[3] = { 0 }, b[2] = { 0 }, c = { 0 };

	(void)state;
	for (int i = 0; i < N; i++)
		assert_true(place_take(all, &hold[i], i < N - 1 ? 1 : 9, false));
	for (int i = 0; i < 3; i++)
		assert_false(place_take(all, &a[i], 1, false));
	for (int i = 0; i < 2; i++)
		assert_false(place_take(all, &b[i], 2, false));
	assert_false(place_take(all, &c, 3, false));
	assert_ptr_equal(place_leave(all, &hold[3]), &b[0]); /* 1 has some */
	assert_ptr_equal(place_leave(all, &hold[2]), &c);
	assert_null(place_leave(all, &hold[1])); /* the last, and all have one */
	assert_ptr_equal(place_leave(all, &hold[0]), &a[0]);
	assert_ptr_equal(place_leave(all, &a[0]), &b[1]);
	assert_ptr_equal(place_leave(all, &b[0]), &a[1]);
	assert_null(place_leave(all, &a[2])); /* it waits no more */
	assert_null(place_leave(all, &a[1]));
	assert_null(place_leave(all, &b[1]));
	assert_null(place_leave(all, &c));
}

static void test_what_is_urgent_goes_before_others_of_its_party_alone(void **state)
{
	_cleanup_(places_freep) struct places *all = places_new(2);
	struct place hold[2] = { 0 }, a[2] = { 0 }, urgent[2] = { 0 }, b = { 0 };

	(void)state;
	assert_true(place_take(all, &hold[0], 1, false));
	assert_true(place_take(all, &hold[1], 2, false));
	for (int i = 0; i < 2; i++)
		assert_false(place_take(all, &a[i], 1, false));
	assert_false(place_take(all, &b, 2, false));
	for (int i = 0; i < 2; i++)
		assert_false(place_take(all, &urgent[i], 1, true));
	assert_ptr_equal(place_leave(all, &hold[0]), &urgent[0]);
	assert_ptr_equal(place_leave(all, &hold[1]), &b);
	assert_ptr_equal(place_leave(all, &urgent[0]), &urgent[1]);
	assert_null(place_leave(all, &b)); /* the last place is not for party 1 */
	assert_ptr_equal(place_leave(all, &urgent[1]), &a[0]);
	assert_ptr_equal(place_leave(all, &a[0]), &a[1]);
	assert_null(place_leave(all, &a[1]));
}

static void test_what_has_no_place_can_leave(void **state)
{
	_cleanup_(places_freep) struct places *all = places_new(N);
	struct place none = { 0 };

	(void)state;
	assert_null(place_leave(all, &none));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_party_may_have_all_places_but_one),
		cmocka_unit_test(test_parties_take_turns),
		cmocka_unit_test(test_what_is_urgent_goes_before_others_of_its_party_alone),
		cmocka_unit_test(test_what_has_no_place_can_leave),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
