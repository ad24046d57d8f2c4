/*
 * Each way of tampering is noticed at the first row that it touches, and called by its name. The
 * rows are kept in an array that stands for the table: its order is the reader's.
 */
#include "test_audit_key.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/audit_chain.h"

#define N_ROWS 12

struct chain_test {
	struct keyring *keyring;
	struct audit_row rows[N_ROWS + 4];
	size_t n;
};

static void test_hash(const struct chain_test *t, const uint8_t *previous, struct audit_row *row)
{
	_cleanup_(buf_deinit) struct buf b = BUF_INIT(0);

	assert_int_equal(audit_encode(row, &b), 0);
	keyring_chain(t->keyring, previous, b.data, b.len, row->hash);
}

static int test_setup(void **state)
{
	struct chain_test *t = calloc(1, sizeof(*t));
	static const uint8_t zeroes[HASH_SIZE];

	assert_non_null(t);
	assert_int_equal(crypt_init(), 0);
	t->keyring = test_keyring_of(1);
	t->n = N_ROWS;
	for (size_t i = 0; i < N_ROWS; i++) {
		struct audit_row *row = &t->rows[i];

		audit_init(row);
		row->sequence = i + 1;
		row->wall_ms = 1700000000000 + (int64_t)i;
		(void)snprintf(row->event, sizeof(row->event), "acquire");
		(void)snprintf(row->detail, sizeof(row->detail), "row %zu", i + 1);
		test_hash(t, i ? t->rows[i - 1].hash : zeroes, row);
	}
	*state = t;
	return 0;
}

static int test_teardown(void **state)
{
	struct chain_test *t = *state;

	keyring_free(t->keyring);
	free(t);
	return 0;
}

/* The row that stands at a sequence. */
static struct audit_row *test_at(struct chain_test *t, uint64_t sequence)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->rows[i].sequence == sequence)
			return &t->rows[i];
	return NULL;
}

static int test_compare(const void *a, const void *b)
{
	int64_t left = (int64_t)((const struct audit_row *)a)->sequence;
	int64_t right = (int64_t)((const struct audit_row *)b)->sequence;

	return (left > right) - (left < right);
}

/* As the table yields them: by their sequence. */
static void test_sort(struct chain_test *t)
{
	qsort(t->rows, t->n, sizeof(t->rows[0]), test_compare);
}

static void test_remove(struct chain_test *t, uint64_t sequence)
{
	size_t i = (size_t)(test_at(t, sequence) - t->rows);

	memmove(&t->rows[i], &t->rows[i + 1], (t->n - i - 1) * sizeof(t->rows[0]));
	t->n--;
}

static void test_shift(struct chain_test *t, uint64_t from, int64_t by)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->rows[i].sequence >= from)
			t->rows[i].sequence += (uint64_t)by;
}

static struct chain_verdict test_verdict(struct chain_test *t, struct chain_head *heads, size_t n)
{
	static const uint8_t zeroes[HASH_SIZE];
	struct chain_verdict v;
	struct chain c;
	bool more = true;

	chain_start(&c, t->keyring, 0, zeroes);
	chain_expect(&c, heads, n);
	for (size_t i = 0; i < t->n && more; i++)
		more = chain_add(&c, &t->rows[i]);
	chain_end(&c, &v);
	return v;
}

#define EXPECT(t, wanted, at, elsewhere)                                  \
	do {                                                              \
		struct chain_verdict expected = test_verdict(t, NULL, 0); \
		assert_int_equal(expected.fault, wanted);                 \
		assert_int_equal(expected.sequence, at);                  \
		assert_int_equal(expected.other, elsewhere);              \
	} while (0)

static void test_a_whole_chain_is_good(void **state)
{
	EXPECT(*state, CHAIN_GOOD, 0, 0);
}

/* Another row first: what an edit looks like must not hang on its being the last. */
static void test_an_edit_of_any_column_is_a_change(void **state)
{
	struct chain_test *t = *state;
	const struct audit_row saved = *test_at(t, 5);
	struct audit_row *row = test_at(t, 5);
	int64_t *const numbers[] = {
		&row->wall_ms, &row->boot_ms, (int64_t *)&row->term,	  &row->uid,
		&row->gid,     &row->pid,     (int64_t *)&row->start_time
	};
	char *const texts[] = {
		row->instance, row->event, row->outcome, row->rule,    row->profile,
		row->lease,    row->unit,  row->exe,	 row->key_tag, row->detail
	};

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		*numbers[i] += 1;
		EXPECT(t, CHAIN_CHANGED, 5, 0);
		*row = saved;
	}
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		texts[i][0] ^= 'x';
		EXPECT(t, CHAIN_CHANGED, 5, 0);
		*row = saved;
	}
	for (size_t i = 0; i < HASH_SIZE; i++) {
		row->hash[i] ^= 1;
		EXPECT(t, CHAIN_CHANGED, 5, 0);
		*row = saved;
	}
	EXPECT(t, CHAIN_GOOD, 0, 0);
}

static void test_an_edit_at_either_end(void **state)
{
	struct chain_test *t = *state;

	test_at(t, N_ROWS)->uid = 0;
	EXPECT(t, CHAIN_CHANGED, N_ROWS, 0);
	test_at(t, 1)->uid = 0;
	EXPECT(t, CHAIN_CHANGED, 1, 0);
}

static void test_a_row_that_was_removed_is_missing(void **state)
{
	struct chain_test *t = *state;

	test_remove(t, 7);
	EXPECT(t, CHAIN_MISSING, 7, 7);
	test_remove(t, 8);
	EXPECT(t, CHAIN_MISSING, 7, 8);
	test_remove(t, 1);
	EXPECT(t, CHAIN_MISSING, 1, 1);
}

static void test_removed_and_renumbered_is_missing_too(void **state)
{
	struct chain_test *t = *state;

	test_remove(t, 7);
	test_remove(t, 8);
	test_shift(t, 9, -2);
	EXPECT(t, CHAIN_MISSING, 7, 8);
}

static void test_an_inserted_row_pushes_the_others_on(void **state)
{
	struct chain_test *t = *state;

	test_shift(t, 5, 1);
	t->rows[t->n] = t->rows[2];
	t->rows[t->n++].sequence = 5;
	test_sort(t);
	EXPECT(t, CHAIN_INSERTED, 5, 6);
}

static void test_two_inserted_rows(void **state)
{
	struct chain_test *t = *state;

	test_shift(t, 5, 2);
	t->rows[t->n] = t->rows[1];
	t->rows[t->n++].sequence = 5;
	t->rows[t->n] = t->rows[2];
	t->rows[t->n++].sequence = 6;
	test_sort(t);
	EXPECT(t, CHAIN_INSERTED, 5, 7);
}

static void test_a_row_before_the_first(void **state)
{
	struct chain_test *t = *state;

	t->rows[t->n] = t->rows[2];
	t->rows[t->n++].sequence = (uint64_t)-3;
	test_sort(t);
	EXPECT(t, CHAIN_INSERTED, -3, 0);
	test_at(t, (uint64_t)-3)->sequence = 0;
	EXPECT(t, CHAIN_INSERTED, 0, 0);
}

/* Nobody without the key can append, so it is one with the case of a last row that was changed. */
static void test_an_appended_row_does_not_fit(void **state)
{
	struct chain_test *t = *state;

	t->rows[t->n] = t->rows[2];
	t->rows[t->n++].sequence = N_ROWS + 1;
	EXPECT(t, CHAIN_CHANGED, N_ROWS + 1, 0);
}

static void test_swap(struct chain_test *t, uint64_t a, uint64_t b)
{
	struct audit_row *left = test_at(t, a), *right = test_at(t, b);

	left->sequence = b;
	right->sequence = a;
	test_sort(t);
}

static void test_rows_that_changed_places(void **state)
{
	struct chain_test *t = *state;

	test_swap(t, 5, 6);
	EXPECT(t, CHAIN_OUT_OF_ORDER, 5, 6);
	test_swap(t, 5, 6);
	EXPECT(t, CHAIN_GOOD, 0, 0);
	test_swap(t, 3, 10);
	EXPECT(t, CHAIN_OUT_OF_ORDER, 3, 10);
}

static void test_a_row_that_was_moved_away(void **state)
{
	struct chain_test *t = *state;

	test_at(t, 4)->sequence = 99;
	test_sort(t);
	EXPECT(t, CHAIN_OUT_OF_ORDER, 4, 99);
}

/* In a file the lines may have any order. */
static void test_lines_that_changed_places(void **state)
{
	struct chain_test *t = *state;
	struct audit_row row = t->rows[4];

	t->rows[4] = t->rows[5];
	t->rows[5] = row;
	EXPECT(t, CHAIN_OUT_OF_ORDER, 5, 5);
	t->rows[5] = t->rows[4];
	t->rows[4] = row;
	t->rows[6] = t->rows[2]; /* a line that comes twice */
	EXPECT(t, CHAIN_INSERTED, 3, 0);
}

static void test_another_key_fits_nothing(void **state)
{
	struct chain_test *t = *state;

	keyring_free(t->keyring);
	t->keyring = test_keyring_of(2);
	EXPECT(t, CHAIN_CHANGED, 1, 0);
}

static struct chain_head test_head(struct chain_test *t, uint64_t sequence)
{
	struct chain_head head = { .sequence = sequence };

	memcpy(head.hash, t->rows[sequence - 1].hash, HASH_SIZE);
	return head;
}

static void test_heads_that_hold(void **state)
{
	struct chain_test *t = *state;
	struct chain_head heads[] = { test_head(t, 1), test_head(t, 6), test_head(t, N_ROWS) };

	assert_int_equal(test_verdict(t, heads, 3).fault, CHAIN_GOOD);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(heads[i].state, CHAIN_HEAD_HELD);
}

static void test_rows_cut_off_before_a_head(void **state)
{
	struct chain_test *t = *state;
	struct chain_head heads[] = { test_head(t, 6), test_head(t, 10), test_head(t, N_ROWS) };
	struct chain_verdict v;

	t->n = 8;
	EXPECT(t, CHAIN_GOOD, 0, 0); /* nothing else tells */
	v = test_verdict(t, heads, 3);
	assert_int_equal(v.fault, CHAIN_MISSING);
	assert_int_equal(v.sequence, 9);
	assert_int_equal(v.other, N_ROWS);
	t->n = 0;
	heads[0].state = CHAIN_HEAD_OPEN;
	v = test_verdict(t, heads, 1);
	assert_int_equal(v.fault, CHAIN_MISSING);
	assert_int_equal(v.sequence, 1);
}

static void test_a_head_of_another_audit(void **state)
{
	struct chain_test *t = *state;
	struct chain_head heads[] = { test_head(t, 12), test_head(t, 7) };
	struct chain_verdict v;

	heads[1].hash[0] ^= 1;
	v = test_verdict(t, heads, 2);
	assert_int_equal(v.fault, CHAIN_OTHER_HEAD);
	assert_int_equal(v.sequence, 7);
	/* the earliest counts, whatever else there is */
	test_at(t, 9)->uid = 0;
	heads[0].state = heads[1].state = CHAIN_HEAD_OPEN;
	v = test_verdict(t, heads, 2);
	assert_int_equal(v.sequence, 7);
	test_at(t, 5)->uid = 0;
	heads[0].state = heads[1].state = CHAIN_HEAD_OPEN;
	v = test_verdict(t, heads, 2);
	assert_int_equal(v.fault, CHAIN_CHANGED);
	assert_int_equal(v.sequence, 5);
}

static void test_a_beginning_in_the_middle(void **state)
{
	struct chain_test *t = *state;
	struct chain_head heads[] = { test_head(t, 3), test_head(t, 4), test_head(t, 6) };
	struct chain_verdict v;
	struct chain c;

	chain_start(&c, t->keyring, 4, test_at(t, 4)->hash);
	chain_expect(&c, heads, 3);
	for (size_t i = 4; i < t->n; i++)
		assert_true(chain_add(&c, &t->rows[i]));
	chain_end(&c, &v);
	assert_int_equal(v.fault, CHAIN_GOOD);
	assert_int_equal(c.first, 5);
	assert_int_equal(c.n_rows, N_ROWS - 4);
	assert_int_equal(heads[0].state, CHAIN_HEAD_OPEN); /* nothing to hold it against */
	assert_int_equal(heads[1].state, CHAIN_HEAD_HELD);

	/* a row before the beginning was taken away, and must not come back */
	chain_start(&c, t->keyring, 4, test_at(t, 4)->hash);
	assert_false(chain_add(&c, &t->rows[3]));
	chain_end(&c, &v);
	assert_int_equal(v.fault, CHAIN_INSERTED);
	assert_int_equal(v.sequence, 4);
}

static void test_going_on_behind_a_prune(void **state)
{
	struct chain_test *t = *state;
	static const uint8_t zeroes[HASH_SIZE];
	struct chain_verdict v;
	struct chain c;

	chain_start(&c, t->keyring, 0, zeroes);
	assert_true(chain_add(&c, &t->rows[0]));
	chain_skip(&c, 6, t->rows[5].hash);
	assert_true(chain_add(&c, &t->rows[6]));
	chain_end(&c, &v);
	assert_int_equal(v.fault, CHAIN_GOOD);
	assert_int_equal(c.last, 7);
}

static void test_a_row_that_cannot_be_read(void **state)
{
	struct chain_test *t = *state;
	static const uint8_t zeroes[HASH_SIZE];
	struct chain_verdict v;
	struct chain c;

	chain_start(&c, t->keyring, 0, zeroes);
	assert_true(chain_add(&c, &t->rows[0]));
	chain_add_impossible(&c, 2);
	chain_end(&c, &v);
	assert_int_equal(v.fault, CHAIN_IMPOSSIBLE);
	assert_int_equal(v.sequence, 2);

	chain_start(&c, t->keyring, 0, zeroes);
	chain_add_impossible(&c, 4);
	chain_end(&c, &v);
	assert_int_equal(v.fault, CHAIN_MISSING);
	assert_int_equal(v.sequence, 1);
	assert_int_equal(v.other, 3);
}

static void test_each_verdict_has_words(void **state)
{
	char text[CHAIN_TEXT_MAX];

	(void)state;
	for (int fault = CHAIN_CHANGED; fault <= CHAIN_OTHER_HEAD; fault++) {
		const struct chain_verdict v = { (enum chain_fault)fault, 5, 9 };

		chain_text(&v, text);
		assert_true(strlen(text) > 10 && strlen(text) < CHAIN_TEXT_MAX - 1);
		assert_true(strlen(chain_fault_name((enum chain_fault)fault)) > 5);
	}
}

static void test_heads_as_text(void **state)
{
	static const char *const bad[] = {
		"",
		"5",
		"5:",
		":0000000000000000000000000000000000000000000000000000000000000000",
		"0:0000000000000000000000000000000000000000000000000000000000000000",
		"-5:0000000000000000000000000000000000000000000000000000000000000000",
		"5:000000000000000000000000000000000000000000000000000000000000000",
		"5:00000000000000000000000000000000000000000000000000000000000000000",
		"5:000000000000000000000000000000000000000000000000000000000000000g",
		"9223372036854775808:0000000000000000000000000000000000000000000000000000000000000000",
		"99999999999999999999:0000000000000000000000000000000000000000000000000000000000000000",
	};
	struct chain_head head = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(chain_head_parse(bad[i], &head), -EINVAL);
	assert_int_equal(
		chain_head_parse(
			"17:00000000000000000000000000000000000000000000000000000000000000Ab",
			&head),
		0);
	assert_int_equal(head.sequence, 17);
	assert_int_equal(head.hash[HASH_SIZE - 1], 0xab);
}

#define CHAIN_TEST(f) cmocka_unit_test_setup_teardown(f, test_setup, test_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CHAIN_TEST(test_a_whole_chain_is_good),
		CHAIN_TEST(test_an_edit_of_any_column_is_a_change),
		CHAIN_TEST(test_an_edit_at_either_end),
		CHAIN_TEST(test_a_row_that_was_removed_is_missing),
		CHAIN_TEST(test_removed_and_renumbered_is_missing_too),
		CHAIN_TEST(test_an_inserted_row_pushes_the_others_on),
		CHAIN_TEST(test_two_inserted_rows),
		CHAIN_TEST(test_a_row_before_the_first),
		CHAIN_TEST(test_an_appended_row_does_not_fit),
		CHAIN_TEST(test_rows_that_changed_places),
		CHAIN_TEST(test_a_row_that_was_moved_away),
		CHAIN_TEST(test_lines_that_changed_places),
		CHAIN_TEST(test_another_key_fits_nothing),
		CHAIN_TEST(test_heads_that_hold),
		CHAIN_TEST(test_rows_cut_off_before_a_head),
		CHAIN_TEST(test_a_head_of_another_audit),
		CHAIN_TEST(test_a_beginning_in_the_middle),
		CHAIN_TEST(test_going_on_behind_a_prune),
		CHAIN_TEST(test_a_row_that_cannot_be_read),
		CHAIN_TEST(test_each_verdict_has_words),
		CHAIN_TEST(test_heads_as_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
