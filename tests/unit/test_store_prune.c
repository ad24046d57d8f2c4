/* What is forgotten of the past: keys of shared profiles too, but never the highest generation. */
#include "test_store.h"

static void put_generation(struct store *s, const char *id, uint64_t generation,
			   enum key_state state)
{
	struct key_row row = test_key(id);

	row.mode = PROFILE_SHARED;
	row.state = state;
	row.generation = generation;
	row.changed_at_ms = 1000;
	(void)snprintf(row.hash, sizeof(row.hash), "%064llx", (unsigned long long)generation);
	assert_int_equal(store_put_key(s, &row, NULL), 0);
}

static void prune(struct store *s)
{
	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_prune(s, 2000, 1000), 0);
	assert_int_equal(store_commit(s), 0);
}

static int count(const struct key_row *row, void *userdata)
{
	(void)row;
	(*(int *)userdata)++;
	return 0;
}

static int count_keys(struct store *s)
{
	int n = 0;

	assert_int_equal(store_each_key(s, true, count, &n), 0);
	return n;
}

/* Refused again and again, or rotated often: the table does not grow for ever. */
static void test_old_generations_are_forgotten(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	uint64_t generation;
	char id[ID_SIZE];

	assert_int_equal(store_begin(s), 0);
	for (uint64_t i = 1; i <= 50; i++) {
		(void)snprintf(id, sizeof(id), "key-%llu", (unsigned long long)i);
		put_generation(s, id, i, KEY_DELETED);
	}
	assert_int_equal(store_commit(s), 0);
	prune(s);
	assert_int_equal(count_keys(s), 1);
	assert_int_equal(store_last_generation(s, "service", &generation), 0);
	assert_int_equal(generation, 50); /* no number is given twice */
}

/* An intent that was refused is no generation. */
static void test_refused_intents_are_forgotten(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	uint64_t generation;

	assert_int_equal(store_begin(s), 0);
	put_generation(s, "live", 3, KEY_LIVE);
	put_generation(s, "refused-1", 0, KEY_DELETED);
	put_generation(s, "refused-2", 0, KEY_DELETED);
	assert_int_equal(store_commit(s), 0);
	prune(s);
	assert_int_equal(count_keys(s), 1);
	assert_int_equal(store_last_generation(s, "service", &generation), 0);
	assert_int_equal(generation, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_old_generations_are_forgotten),
		STORE_TEST(test_refused_intents_are_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
