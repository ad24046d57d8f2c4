/* The log: one line an event, at the level that was asked for, and nobody forges a line. */
#include "test_stderr.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

static const enum log_level test_levels[] = { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO,
					      LOG_LEVEL_DEBUG };
static const char *const test_words[] = { "error: ", "warning: ", "", "debug: " };

static int test_setup(void **state)
{
	(void)state;
	log_set_level(LOG_LEVEL_INFO);
	return unsetenv("JOURNAL_STREAM");
}

/* The message behind time, program and level: what stands behind `before`. */
static const char *test_behind(const char *line, const char *before)
{
	const char *at = strstr(line, before);

	assert_non_null(at);
	return at + strlen(before);
}

static void test_a_line_has_time_program_level_and_text(void **state)
{
	struct capture c;

	(void)state;
	log_set_level(LOG_LEVEL_DEBUG);
	for (size_t i = 0; i < ARRAY_SIZE(test_levels); i++) {
		char expected[128];
		int year, month, day, hour, minute, second, ms, end = 0;
		const char *line;

		capture_begin(&c);
		log_write(test_levels[i], "%s and %d", "text", 7);
		line = capture_end(&c);
		assert_int_equal(sscanf(line, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ %n", &year, &month,
					&day, &hour, &minute, &second, &ms, &end),
				 7);
		assert_int_equal(end, strlen("2024-01-01T00:00:00.000Z "));
		assert_true(year >= 2024 && month <= 12 && day <= 31);
		(void)snprintf(expected, sizeof(expected), "%s: %stext and 7\n",
			       program_invocation_short_name, test_words[i]);
		assert_string_equal(line + end, expected);
	}
}

/* It is part of the record, so no level keeps it away. */
static void test_a_notice_is_written_at_every_level(void **state)
{
	struct capture c;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(test_levels); i++) {
		log_set_level(test_levels[i]);
		capture_begin(&c);
		log_notice("text");
		assert_string_equal(test_behind(capture_end(&c), ": "), "text\n");
	}
}

static void test_the_journal_gets_priorities(void **state)
{
	static const char *const expected[] = { "<3>text\n", "<4>text\n", "<6>text\n",
						"<7>text\n" };
	struct capture c;

	(void)state;
	log_set_level(LOG_LEVEL_DEBUG);
	assert_int_equal(setenv("JOURNAL_STREAM", "8:1234", 1), 0);
	for (size_t i = 0; i < ARRAY_SIZE(test_levels); i++) {
		capture_begin(&c);
		log_write(test_levels[i], "text");
		assert_string_equal(capture_end(&c), expected[i]);
	}
}

static void test_the_level_filters(void **state)
{
	struct capture c;

	(void)state;
	for (size_t set = 0; set < ARRAY_SIZE(test_levels); set++)
		for (size_t i = 0; i < ARRAY_SIZE(test_levels); i++) {
			log_set_level(test_levels[set]);
			capture_begin(&c);
			log_write(test_levels[i], "text");
			assert_int_equal(capture_end(&c)[0] != '\0', i <= set);
		}
}

static void test_the_macros_name_their_levels(void **state)
{
	struct capture c;

	(void)state;
	assert_int_equal(setenv("JOURNAL_STREAM", "8:1234", 1), 0);
	capture_begin(&c);
	log_error("a");
	log_warning("b");
	log_info("c");
	log_debug("d"); /* the level is info unless someone says otherwise */
	assert_string_equal(capture_end(&c), "<3>a\n<4>b\n<6>c\n");
}

/* A peer's text cannot look like a line of its own, nor write to the terminal. */
static void test_control_characters_forge_nothing(void **state)
{
	char text[256], expected[256];
	struct capture c;

	(void)state;
	for (int i = 1; i < 256; i++) {
		text[i - 1] = (char)i;
		expected[i - 1] = i < 0x20 || i == 0x7f ? ' ' : (char)i;
	}
	text[255] = expected[255] = '\0';
	capture_begin(&c);
	log_info("<%s>", text);
	(void)capture_end(&c);
	assert_memory_equal(test_behind(c.text, ": <"), expected, 255);
	assert_string_equal(test_behind(c.text, "<") + 255, ">\n");
	capture_begin(&c);
	log_info("x\n<3>2024-01-01T00:00:00.000Z keybrokerd: forged");
	(void)capture_end(&c);
	assert_ptr_equal(strchr(c.text, '\n'), c.text + strlen(c.text) - 1);
}

static void test_a_long_line_is_cut_and_ended(void **state)
{
	char text[5000];
	struct capture c;
	size_t n;

	(void)state;
	for (size_t length = 1900; length < sizeof(text); length++) {
		memset(text, 'x', sizeof(text));
		text[length] = '\0';
		if (length > 2100 && length < sizeof(text) - 2)
			continue;
		capture_begin(&c);
		log_info("%s", text);
		n = strlen(capture_end(&c));
		assert_true(n <= 2048 && n > 1900);
		assert_int_equal(c.text[n - 1], '\n');
		assert_int_equal(c.text[n - 2], 'x');
	}
}

/* argv[0] belongs to who started the program. */
static void test_a_program_name_forges_and_breaks_nothing(void **state)
{
	char *name = program_invocation_short_name;
	char long_name[4096];
	struct capture c;

	(void)state;
	memset(long_name, 'p', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	long_name[3] = '\n';
	program_invocation_short_name = long_name;
	capture_begin(&c);
	log_error("text");
	(void)capture_end(&c);
	program_invocation_short_name = name;
	assert_non_null(strstr(c.text, "ppp ppp"));
	assert_string_equal(test_behind(c.text, ": error: "), "text\n");
}

static void test_a_closed_stderr_is_no_one_s_fault(void **state)
{
	int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(close(STDERR_FILENO), 0);
	log_error("text");
	assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
	assert_int_equal(close(fd), 0);
}

#define LOG_TEST(f) cmocka_unit_test_setup_teardown(f, test_setup, test_setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		/* before any other has set a level */
		cmocka_unit_test(test_the_macros_name_their_levels),
		LOG_TEST(test_a_line_has_time_program_level_and_text),
		LOG_TEST(test_a_notice_is_written_at_every_level),
		LOG_TEST(test_the_journal_gets_priorities),
		LOG_TEST(test_the_level_filters),
		LOG_TEST(test_control_characters_forge_nothing),
		LOG_TEST(test_a_long_line_is_cut_and_ended),
		LOG_TEST(test_a_program_name_forges_and_breaks_nothing),
		LOG_TEST(test_a_closed_stderr_is_no_one_s_fault),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
