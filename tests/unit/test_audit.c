/* The canonical bytes of an audit row: a vector written by hand, since every chain ever made
 * depends on them. */
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/audit.h"

#define TEST_ROW_BYTES 186 /* 8 numbers, 10 lengths, 82 bytes of text */

/* Made from the header's words alone: numbers of 8 bytes, texts after a length of 4, big-endian. */
static const uint8_t test_bytes[] = "\x00\x00\x00\x00\x00\x00\x01\x02" /* sequence 258 */
				    "\x00\x00\x01\x8b\xcf\xe5\x68\x01" /* wall_ms 1700000000001 */
				    "\x00\x00\x00\x01\x00\x00\x00\x00" /* boot_ms 2^32 */
				    "\x00\x00\x00\x00\x00\x00\x00\x07" /* term 7 */
				    "\x00\x00\x00\x04"
				    "main"
				    "\x00\x00\x00\x07"
				    "acquire"
				    "\x00\x00\x00\x02"
				    "ok"
				    "\x00\x00\x00\x00" /* no rule */
				    "\x00\x00\x00\x07"
				    "service"
				    "\x00\x00\x00\x10"
				    "ABCDEFGHIJKLMNOP"
				    "\x00\x00\x00\x00\x00\x00\x03\xe8" /* uid 1000 */
				    "\xff\xff\xff\xff\xff\xff\xff\xff" /* gid -1 */
				    "\x00\x00\x00\x00\xff\xff\xff\xfe" /* pid 4294967294 */
				    "\xff\xff\xff\xff\xff\xff\xff\xff" /* start_time 2^64 - 1 */
				    "\x00\x00\x00\x06"
				    "a.unit"
				    "\x00\x00\x00\x04"
				    "/bin"
				    "\x00\x00\x00\x20"
				    "0123456789abcdef0123456789abcdef"
				    "\x00\x00\x00\x04"
				    "\xc3\xa4\n\"";

static struct audit_row test_row(void)
{
	struct audit_row row = { .sequence = 258,
				 .wall_ms = 1700000000001,
				 .boot_ms = INT64_C(1) << 32,
				 .term = 7,
				 .instance = "main",
				 .event = "acquire",
				 .outcome = "ok",
				 .profile = "service",
				 .lease = "ABCDEFGHIJKLMNOP",
				 .uid = 1000,
				 .gid = -1,
				 .pid = 4294967294,
				 .start_time = UINT64_MAX,
				 .unit = "a.unit",
				 .exe = "/bin",
				 .key_tag = "0123456789abcdef0123456789abcdef",
				 .detail = "\xc3\xa4\n\"" };

	return row;
}

static void test_a_row_has_these_bytes(void **state)
{
	_cleanup_(buf_deinit) struct buf b = BUF_INIT(0);
	struct audit_row row = test_row();

	(void)state;
	assert_int_equal(sizeof(test_bytes) - 1, TEST_ROW_BYTES);
	assert_int_equal(audit_encode(&row, &b), 0);
	assert_int_equal(b.len, TEST_ROW_BYTES);
	assert_memory_equal(b.data, test_bytes, TEST_ROW_BYTES);
}

static void test_its_own_hash_is_not_covered(void **state)
{
	_cleanup_(buf_deinit) struct buf b = BUF_INIT(0);
	struct audit_row row = test_row();

	(void)state;
	memset(row.hash, 0xaa, sizeof(row.hash));
	assert_int_equal(audit_encode(&row, &b), 0);
	assert_int_equal(b.len, TEST_ROW_BYTES);
	assert_memory_equal(b.data, test_bytes, TEST_ROW_BYTES);
}

/* What lies behind the end of a text is nobody's business. */
static void test_bytes_behind_a_text_do_not_count(void **state)
{
	_cleanup_(buf_deinit) struct buf b = BUF_INIT(0);
	struct audit_row row = test_row();

	(void)state;
	row.detail[40] = row.event[20] = row.unit[255] = 'x';
	assert_int_equal(audit_encode(&row, &b), 0);
	assert_int_equal(b.len, TEST_ROW_BYTES);
	assert_memory_equal(b.data, test_bytes, TEST_ROW_BYTES);
}

/* The lengths tell texts apart that run together to the same bytes. */
static void test_moved_text_gives_other_bytes(void **state)
{
	_cleanup_(buf_deinit) struct buf a = BUF_INIT(0), b = BUF_INIT(0);
	struct audit_row x, y;

	(void)state;
	audit_init(&x);
	audit_init(&y);
	(void)snprintf(x.event, sizeof(x.event), "ab");
	(void)snprintf(x.outcome, sizeof(x.outcome), "c");
	(void)snprintf(y.event, sizeof(y.event), "a");
	(void)snprintf(y.outcome, sizeof(y.outcome), "bc");
	assert_int_equal(audit_encode(&x, &a), 0);
	assert_int_equal(audit_encode(&y, &b), 0);
	assert_int_equal(a.len, b.len);
	assert_memory_not_equal(a.data, b.data, a.len);
}

static void test_the_longest_texts_are_whole(void **state)
{
	_cleanup_(buf_deinit) struct buf b = BUF_INIT(0);
	struct audit_row row;

	(void)state;
	audit_init(&row);
	memset(row.detail, 'd', sizeof(row.detail) - 1);
	memset(row.exe, 'e', sizeof(row.exe) - 1);
	assert_int_equal(audit_encode(&row, &b), 0);
	assert_int_equal(b.len, 8 * 8 + 10 * 4 + sizeof(row.detail) - 1 + sizeof(row.exe) - 1);
	assert_memory_equal(b.data + b.len - 515, "\x00\x00\x01\xff", 4);
}

static void test_a_full_buffer_is_an_error(void **state)
{
	struct audit_row row = test_row();

	(void)state;
	for (size_t room = 1; room <= TEST_ROW_BYTES; room++) {
		_cleanup_(buf_deinit) struct buf b = BUF_INIT(room);

		assert_int_equal(audit_encode(&row, &b), room < TEST_ROW_BYTES ? -ENOBUFS : 0);
	}
}

static void test_an_empty_row_has_no_peer(void **state)
{
	struct audit_row row;

	(void)state;
	memset(&row, 0x55, sizeof(row));
	audit_init(&row);
	assert_int_equal(row.uid, -1);
	assert_int_equal(row.gid, -1);
	assert_int_equal(row.pid, -1);
	assert_int_equal(row.start_time, 0);
	assert_int_equal(row.sequence, 0);
	assert_string_equal(row.detail, "");
	assert_string_equal(row.key_tag, "");
}

static void test_a_peer_is_taken_over_whole(void **state)
{
	struct peer peer = { .uid = 4294967295U, .gid = 2147483648U, .pid = 77, .start_time = 99 };
	struct audit_row row;

	(void)state;
	memset(peer.unit, 'u', sizeof(peer.unit) - 1);
	memset(peer.exe, 'x', sizeof(peer.exe) - 1);
	audit_init(&row);
	audit_set_peer(&row, &peer);
	assert_true(row.uid == 4294967295 && row.gid == 2147483648 && row.pid == 77);
	assert_int_equal(row.start_time, 99);
	assert_string_equal(row.unit, peer.unit);
	assert_string_equal(row.exe, peer.exe);
}

static void test_texts_of_others_become_utf8(void **state)
{
	struct audit_row row, expected;

	(void)state;
	audit_init(&row);
	(void)snprintf(row.exe, sizeof(row.exe), "/a\xff/\xc3\xa4");
	(void)snprintf(row.unit, sizeof(row.unit), "\xe2\x82.service");
	memset(row.detail, 'x', sizeof(row.detail) - 2);
	row.detail[sizeof(row.detail) - 2] = '\xc3'; /* half of what did not fit */
	expected = row;
	(void)snprintf(expected.exe, sizeof(expected.exe), "/a?/\xc3\xa4");
	(void)snprintf(expected.unit, sizeof(expected.unit), "??.service");
	expected.detail[sizeof(expected.detail) - 2] = '\0';
	audit_clean(&row);
	assert_string_equal(row.exe, expected.exe);
	assert_string_equal(row.unit, expected.unit);
	assert_string_equal(row.detail, expected.detail);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_row_has_these_bytes),
		cmocka_unit_test(test_its_own_hash_is_not_covered),
		cmocka_unit_test(test_bytes_behind_a_text_do_not_count),
		cmocka_unit_test(test_moved_text_gives_other_bytes),
		cmocka_unit_test(test_the_longest_texts_are_whole),
		cmocka_unit_test(test_a_full_buffer_is_an_error),
		cmocka_unit_test(test_an_empty_row_has_no_peer),
		cmocka_unit_test(test_a_peer_is_taken_over_whole),
		cmocka_unit_test(test_texts_of_others_become_utf8),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
