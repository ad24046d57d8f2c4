/* The wiping buffer: its limit is exact, a failure changes nothing, and what it lets go is wiped.
 */
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

/* The last wipe. Freed memory may not be looked at, so the library's function is replaced by one
 * that does the same and remembers. */
static const uint8_t *test_wiped;
static size_t test_wiped_size;

void sodium_memzero(void *p, size_t n);
void sodium_memzero(void *p, size_t n)
{
	memset(p, 0, n);
	test_wiped = p;
	test_wiped_size = n;
}

static void test_bytes_and_text_are_appended(void **state)
{
	_cleanup_(buf_deinit) struct buf b = BUF_INIT(0);

	(void)state;
	assert_int_equal(buf_append(&b, "ab\0c", 4), 0);
	assert_int_equal(buf_printf(&b, "-%d-%s", 42, "x"), 0);
	assert_int_equal(b.len, 9);
	assert_memory_equal(b.data, "ab\0c-42-x", 9);
	assert_int_equal(buf_append(&b, NULL, 0), 0);
	assert_int_equal(buf_printf(&b, "%s", ""), 0);
	assert_int_equal(b.len, 9);
}

static void test_growing_keeps_all_bytes(void **state)
{
	_cleanup_(buf_deinit) struct buf b = BUF_INIT(0);

	(void)state;
	for (int i = 0; i < 3000; i++) {
		uint8_t byte = (uint8_t)(i * 7);

		assert_int_equal(buf_append(&b, &byte, 1), 0);
		assert_true(b.cap > b.len);
	}
	for (int i = 0; i < 3000; i++)
		assert_int_equal(b.data[i], (uint8_t)(i * 7));
}

static void test_the_limit_is_exact_and_failures_change_nothing(void **state)
{
	_cleanup_(buf_deinit) struct buf b = BUF_INIT(8);
	struct buf before;
	uint8_t *to = NULL;

	(void)state;
	assert_int_equal(buf_append(&b, "123456789", 9), -ENOBUFS);
	assert_null(b.data);
	assert_int_equal(buf_append(&b, "12345678", 8), 0);
	before = b;
	assert_int_equal(buf_append(&b, "9", 1), -ENOBUFS);
	assert_int_equal(buf_append(&b, "9", SIZE_MAX), -ENOBUFS);
	assert_int_equal(buf_append(&b, "9", SIZE_MAX - 8), -ENOBUFS);
	assert_int_equal(buf_printf(&b, "9"), -ENOBUFS);
	assert_int_equal(buf_reserve(&b, 1, &to), -ENOBUFS);
	assert_null(to);
	assert_memory_equal(&b, &before, sizeof(b));
	assert_string_equal(buf_text(&b), "12345678");
	assert_int_equal(buf_append(&b, "", 0), 0);
}

/* The same limit for text: what appended bytes may fill, formatted ones may. */
static void test_text_may_fill_the_buffer_to_its_limit(void **state)
{
	(void)state;
	for (size_t limit = 1; limit < 600; limit++) {
		_cleanup_(buf_deinit) struct buf b = BUF_INIT(limit);

		assert_int_equal(buf_printf(&b, "%*d", (int)limit + 1, 7), -ENOBUFS);
		assert_int_equal(b.len, 0);
		assert_int_equal(buf_printf(&b, "%*d", (int)limit, 7), 0);
		assert_int_equal(b.len, limit);
		assert_int_equal(b.data[limit - 1], '7');
		assert_int_equal(strlen(buf_text(&b)), limit);
	}
}

static void test_without_a_limit_there_is_still_one(void **state)
{
	_cleanup_(buf_deinit) struct buf b = BUF_INIT(0);
	uint8_t *to;

	(void)state;
	assert_int_equal(buf_reserve(&b, BUF_MAX + 1, &to), -ENOBUFS);
	assert_int_equal(buf_reserve(&b, BUF_MAX, &to), 0);
	b.len = BUF_MAX;
	assert_int_equal(buf_append(&b, "x", 1), -ENOBUFS);
	assert_non_null(buf_text(&b));
}

static void test_reserved_room_counts_when_it_is_used(void **state)
{
	_cleanup_(buf_deinit) struct buf b = BUF_INIT(0);
	uint8_t *to;

	(void)state;
	assert_int_equal(buf_append(&b, "ab", 2), 0);
	assert_int_equal(buf_reserve(&b, 1000, &to), 0);
	assert_ptr_equal(to, b.data + 2);
	assert_int_equal(b.len, 2);
	memset(to, 'c', 1000);
	b.len += 3;
	assert_string_equal(buf_text(&b), "abccc");
}

static void test_text_ends_with_a_nul_that_is_not_counted(void **state)
{
	_cleanup_(buf_deinit) struct buf b = BUF_INIT(0);

	(void)state;
	assert_string_equal(buf_text(&b), "");
	assert_int_equal(b.len, 0);
	for (size_t n = 1; n < 1100; n++) { /* also where the memory is just full */
		assert_int_equal(buf_append(&b, "x", 1), 0);
		assert_int_equal(strlen(buf_text(&b)), n);
		assert_int_equal(b.len, n);
	}
}

static void test_consuming_moves_the_rest_and_wipes_behind_it(void **state)
{
	_cleanup_(buf_deinit) struct buf b = BUF_INIT(0);

	(void)state;
	assert_int_equal(buf_append(&b, "0123456789", 10), 0);
	buf_consume(&b, 0);
	assert_int_equal(b.len, 10);
	buf_consume(&b, 3);
	assert_int_equal(b.len, 7);
	assert_memory_equal(b.data, "3456789\0\0\0", 10);
	buf_consume(&b, 100); /* more than there is: all */
	assert_int_equal(b.len, 0);
	assert_memory_equal(b.data, "\0\0\0\0\0\0\0\0\0\0", 10);
	buf_consume(&b, 1);
	assert_int_equal(b.len, 0);
	assert_int_equal(buf_append(&b, "again", 5), 0);
	assert_string_equal(buf_text(&b), "again");
}

static void test_an_empty_buffer_can_be_consumed_and_freed(void **state)
{
	struct buf b = BUF_INIT(9);

	(void)state;
	buf_consume(&b, 1);
	buf_deinit(&b);
	buf_deinit(&b);
	assert_null(b.data);
	assert_int_equal(b.max, 9);
}

/* The whole memory, not only what is in use: a longer text may have stood there. */
static void test_freed_memory_is_wiped_whole(void **state)
{
	struct buf b = BUF_INIT(4000);
	const uint8_t *data;
	size_t cap;

	(void)state;
	assert_int_equal(buf_append(&b, "secret", 6), 0);
	data = b.data;
	cap = b.cap;
	b.len = 2;
	buf_deinit(&b);
	assert_ptr_equal(test_wiped, data);
	assert_int_equal(test_wiped_size, cap);
	assert_null(b.data);
	assert_int_equal(b.len + b.cap, 0);
	assert_int_equal(b.max, 4000); /* usable again, within the same limit */
	assert_int_equal(buf_append(&b, "x", 1), 0);
	buf_deinit(&b);
}

static void test_growth_wipes_the_old_memory(void **state)
{
	_cleanup_(buf_deinit) struct buf b = BUF_INIT(0);
	const uint8_t *data;
	size_t cap;

	(void)state;
	assert_int_equal(buf_append(&b, "secret", 6), 0);
	data = b.data;
	cap = b.cap;
	test_wiped = NULL;
	while (b.cap == cap)
		assert_int_equal(buf_append(&b, "x", 1), 0);
	assert_ptr_equal(test_wiped, data);
	assert_int_equal(test_wiped_size, cap);
	assert_memory_equal(b.data, "secretxx", 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes_and_text_are_appended),
		cmocka_unit_test(test_growing_keeps_all_bytes),
		cmocka_unit_test(test_the_limit_is_exact_and_failures_change_nothing),
		cmocka_unit_test(test_text_may_fill_the_buffer_to_its_limit),
		cmocka_unit_test(test_without_a_limit_there_is_still_one),
		cmocka_unit_test(test_reserved_room_counts_when_it_is_used),
		cmocka_unit_test(test_text_ends_with_a_nul_that_is_not_counted),
		cmocka_unit_test(test_consuming_moves_the_rest_and_wipes_behind_it),
		cmocka_unit_test(test_an_empty_buffer_can_be_consumed_and_freed),
		cmocka_unit_test(test_freed_memory_is_wiped_whole),
		cmocka_unit_test(test_growth_wipes_the_old_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
