/* What people and shells read: text is harmless, tables fit, times and durations are right. */
#include "test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "cli/json_out.h"
#include "cli/table.h"
#include "cli/text.h"
#include "cli/when.h"
#include "proto/message.h"

static void test_control_characters_do_not_reach_the_terminal(void **state)
{
	_cleanup_(freep) char *a = text_clean("a\x1b[2Jb\n\x7f");
	_cleanup_(freep) char *b = text_clean("z\xc3\xbcrich\xc2\x9b"
					      "31m");
	_cleanup_(freep) char *c = text_clean(NULL);

	(void)state;
	assert_string_equal(a, "a?[2Jb??");
	assert_string_equal(b, "z\xc3\xbcrich??31m");
	assert_string_equal(c, "");
}

static void test_words_survive_a_shell(void **state)
{
	static const struct {
		const char *raw, *word;
	} rows[] = {
		{ "http://h:1/v1", "http://h:1/v1" },
		{ "sk-A_b-9", "sk-A_b-9" },
		{ "", "''" },
		{ "a b", "'a b'" },
		{ "it's $(x)", "'it'\\''s $(x)'" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *word = text_shell_word(rows[i].raw);

		assert_string_equal(word, rows[i].word);
	}
}

static char *print_table(const struct table *t, size_t width)
{
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);

	assert_non_null(f);
	table_print(t, f, width);
	assert_int_equal(fclose(f), 0);
	return text;
}

static void test_columns_stand_in_line(void **state)
{
	static const char *const titles[] = { "NAME", ">N", "WHAT", NULL };
	_cleanup_(table_freep) struct table *t = table_new(titles);

	(void)state;
	table_cell(t, "%s", "z\xc3\xbcrich");
	table_cell(t, "%d", 7);
	table_cell(t, "%s", "x\ty");
	table_end_row(t);
	table_cell(t, "%s", "b");
	table_cell(t, "%d", 12345);
	table_end_row(t);
	assert_int_equal(table_n_rows(t), 2);
	_cleanup_(freep) char *text = print_table(t, 100);
	assert_string_equal(text, "NAME        N  WHAT\n"
				  "z\xc3\xbcrich      7  x?y\n"
				  "b       12345\n");
}

/* Whatever is in the cells, no line is wider than asked, and the widest column gives way. */
static void test_tables_fit(void **state)
{
	static const char *const titles[] = { "LEASE", "MODELS", "URL", NULL };
	_cleanup_(table_freep) struct table *t = table_new(titles);
	char longest[400];

	(void)state;
	memset(longest, 'm', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	table_cell(t, "4vXhJq0Zr2mTnB7c");
	table_cell(t, "%s", longest);
	table_cell(t, "http://127.0.0.1:4000/v1");
	table_end_row(t);
	_cleanup_(freep) char *text = print_table(t, 100);
	assert_non_null(strstr(text, "4vXhJq0Zr2mTnB7c  mmm"));
	assert_non_null(strstr(text, "m…  http://127.0.0.1:4000/v1\n"));
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		assert_true(text_width(line) <= 100);
}

/* What goes into a file or a pipe is read by programs. */
static void test_tables_for_programs_are_whole(void **state)
{
	static const char *const titles[] = { "LEASE", "DETAIL", NULL };
	_cleanup_(table_freep) struct table *t = table_new(titles);
	_cleanup_(fd_close) int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	char longest[400];

	(void)state;
	memset(longest, 'm', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	table_cell(t, "4vXhJq0Zr2mTnB7c");
	table_cell(t, "%s", longest);
	table_end_row(t);
	_cleanup_(freep) char *text = print_table(t, table_width(fd));
	assert_non_null(strstr(text, longest));
}

static void test_width_is_that_of_the_terminal(void **state)
{
	struct winsize size = { .ws_row = 24, .ws_col = 132 };
	_cleanup_(fd_close) int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

	(void)state;
	assert_true(terminal >= 0);
	assert_int_equal(grantpt(terminal), 0);
	assert_int_equal(unlockpt(terminal), 0);
	_cleanup_(fd_close) int fd = open(ptsname(terminal), O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(table_width(fd), 80);
	assert_int_equal(ioctl(fd, TIOCSWINSZ, &size), 0);
	assert_int_equal(table_width(fd), 132);
}

static void test_durations(void **state)
{
	static const char *const bad[] = { "",
					   "0s",
					   "-1s",
					   "30",
					   "1h30m",
					   "500ms",
					   "s",
					   "1 h",
					   "1H",
					   "01s",
					   "+1s",
					   "1.5h",
					   "9223372036854775807s",
					   "99999999999999999999s" };
	int64_t ms = 0;

	(void)state;
	assert_true(when_parse_duration("30s", &ms) && ms == 30000);
	assert_true(when_parse_duration("15m", &ms) && ms == 900000);
	assert_true(when_parse_duration("2h", &ms) && ms == 7200000);
	assert_true(when_parse_duration("1d", &ms) && ms == 86400000);
	assert_true(when_parse_duration("1w", &ms) && ms == 604800000);
	assert_true(when_parse_duration("1mo", &ms) && ms == 2592000000);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(when_parse_duration(bad[i], &ms));
	assert_int_equal(ms, 2592000000);
}

static void test_moments_are_read(void **state)
{
	static const int64_t now = 1790000000000; /* 2026-09-21T14:13:20Z */
	static const struct {
		const char *text;
		int64_t at;
	} good[] = {
		{ "2h", 1790000000000 - 7200000 },
		{ "2026-09-21T14:13:20Z", 1790000000000 },
		{ "2026-09-21t14:13:20z", 1790000000000 },
		{ "2026-09-21 14:13:20.7Z", 1790000000700 },
		{ "2026-09-21T14:13:20.12399+00:00", 1790000000123 },
		{ "2026-09-21T16:13:20+02:00", 1790000000000 },
		{ "2026-09-21T08:43:20-05:30", 1790000000000 },
		{ "2024-02-29T00:00:00Z", 1709164800000 },
		/* local: CEST, and CET */
		{ "2026-09-21 16:13:20", 1790000000000 },
		{ "2026-01-01T01:00:00", 1767225600000 },
		{ "2026-01-01", 1767222000000 },
	};
	static const char *const bad[] = {
		"",
		"now",
		"2026",
		"2026-09-31",
		"2026-09",
		"2026-09-21T14:13",
		"2026-09-21T14:13:20X",
		"2026-09-21T14:13:20Z ",
		"2026-09-21T14:13:20+0200",
		"2026-09-21T14:13:20+24:00",
		"2026-09-21T14:13:20+02:00:00",
		"2026-09-21T25:13:20Z",
		"2026-13-21T14:13:20Z",
		"2026-09-31T14:13:20Z",
		"2025-02-29T14:13:20Z",
		"1969-12-31T23:59:59Z",
		"99999w",
		"1790000000000",
		"-2h",
	};
	int64_t ms = -7;

	(void)state;
	(void)setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
	tzset();
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (when_parse_time(bad[i], now, &ms))
			fail_msg("%s is %lld", bad[i], (long long)ms);
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_true(when_parse_time(good[i].text, now, &ms));
		assert_int_equal(ms, good[i].at);
	}
	(void)setenv("TZ", "UTC", 1);
	tzset();
}

static void test_hashes_are_read(void **state)
{
	char hash[TEXT_HASH_SIZE], sha[TEXT_HASH_SIZE + 1];

	(void)state;
	memset(sha, 'A', sizeof(sha));
	sha[TEXT_HASH_SIZE] = '\0';
	assert_false(text_hash(sha, 8, hash)); /* a digit too many */
	sha[TEXT_HASH_SIZE - 1] = '\0';
	assert_true(text_hash(sha, TEXT_HASH_SIZE - 1, hash));
	assert_int_equal(strspn(hash, "a"), TEXT_HASH_SIZE - 1);
	assert_true(text_hash("0123ABef", 8, hash));
	assert_string_equal(hash, "0123abef");
	assert_false(text_hash("0123abe", 8, hash));
	assert_false(text_hash("0123abeg", 8, hash));
	assert_false(text_hash("", 0, hash) && hash[0]);
}

static void test_times(void **state)
{
	static const struct {
		int64_t distance;
		const char *text;
	} rows[] = {
		{ 15 * 60000 - 5, "in 15 min" },
		{ 24 * 3600000LL - 5, "in 24 h" },
		{ -15 * 60000 + 5, "14 min ago" },
		{ 14 * 60000 + 5, "in 14 min" },
		{ -3 * 3600000LL, "3 h ago" },
		{ 90 * 60000, "in 90 min" },
		{ 47 * 3600000LL, "in 47 h" },
		{ 49 * 3600000LL, "in 2 d" },
		{ 999, "now" },
		{ -119000, "119 s ago" },
		{ 1000, "in 1 s" },
	};
	char text[WHEN_SIZE];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		when_relative(1790000000000 + rows[i].distance, 1790000000000, text);
		assert_string_equal(text, rows[i].text);
	}
	(void)setenv("TZ", "UTC", 1);
	when_both(1790000000000, 1790000000000 - 60000 * 14, text);
	assert_string_equal(text, "2026-09-21 14:13:20 (in 14 min)");
}

static void test_replies_as_json(void **state)
{
	static const uint8_t bytes[] = "\x94\x01\x01\xc0\x85\xa1"
				       "a\x93\x01\xd1\xff\x00\xc3\xa1"
				       "b\xa6\"\\\n\x7f\xc3\xbc\xa1"
				       "c\xc0\xa1"
				       "d\xa2\xff\xfe\xa1"
				       "e\x80";
	_cleanup_(message_freep) struct message *m = NULL;
	_cleanup_(freep) char *text = NULL;
	size_t n = 0;

	(void)state;
	assert_int_equal(message_read(&m, bytes, sizeof(bytes) - 1), 0);
	FILE *f = open_memstream(&text, &n);
	assert_non_null(f);
	json_out(f, message_result(m));
	assert_int_equal(fclose(f), 0);
	assert_string_equal(text, "{\"a\":[1,-256,true],\"b\":\"\\\"\\\\\\u000a\\u007f\xc3\xbc\","
				  "\"c\":null,\"d\":null,\"e\":{}}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_control_characters_do_not_reach_the_terminal),
		cmocka_unit_test(test_words_survive_a_shell),
		cmocka_unit_test(test_columns_stand_in_line),
		cmocka_unit_test(test_tables_fit),
		cmocka_unit_test(test_tables_for_programs_are_whole),
		cmocka_unit_test(test_width_is_that_of_the_terminal),
		cmocka_unit_test(test_durations),
		cmocka_unit_test(test_moments_are_read),
		cmocka_unit_test(test_hashes_are_read),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_replies_as_json),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
