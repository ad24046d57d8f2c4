/* Warnings of room: once when they begin, once when they end, and in between for `status`. */
#include "test_stderr.h"

#include <string.h>

#include "core/config.h"
#include "daemon/space.h"
#include "io/store_space.h"

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

static struct config test_config = { .state_dir = (char[]){ "/the/state" },
				     .audit_warn_size = 1 << 30 };

/* -> what was said. */
static const char *test_judge(struct space *s, uint64_t used, uint64_t free, uint64_t size)
{
	static struct capture c;
	const struct store_space found = { used, free, size };

	capture_begin(&c);
	space_judge(s, &test_config, &found);
	return capture_end(&c);
}

static void test_a_large_state(void **state)
{
	char *texts[SPACE_N_WARNINGS];
	struct space s = { 0 };

	(void)state;
	assert_string_equal(test_judge(&s, GIB, 10 * GIB, 10 * GIB), "");
	assert_int_equal(space_warnings(&s, texts), 0);
	assert_non_null(strstr(test_judge(&s, GIB + 1, 10 * GIB, 10 * GIB),
			       "warning: the state has 1024 MiB"));
	assert_int_equal(space_warnings(&s, texts), 1);
	assert_non_null(strstr(texts[0], "audit prune --before"));
	assert_string_equal(test_judge(&s, 2 * GIB, 10 * GIB, 10 * GIB), "");
	assert_int_equal(space_warnings(&s, texts), 1);
	assert_non_null(strstr(texts[0], "has 2048 MiB")); /* as it is now */
	/* a little less does not end it: it would come and go */
	assert_string_equal(test_judge(&s, GIB - 1, 10 * GIB, 10 * GIB), "");
	assert_non_null(
		strstr(test_judge(&s, GIB / 2, 10 * GIB, 10 * GIB), "below audit_warn_size"));
	assert_int_equal(space_warnings(&s, texts), 0);
}

static void test_no_limit_no_warning(void **state)
{
	struct space s = { 0 };
	int64_t saved = test_config.audit_warn_size;

	(void)state;
	test_config.audit_warn_size = 0;
	assert_string_equal(test_judge(&s, 99 * GIB, 100 * GIB, 200 * GIB), "");
	test_config.audit_warn_size = saved;
}

static void test_little_room(void **state)
{
	char *texts[SPACE_N_WARNINGS];
	struct space s = { 0 };

	(void)state;
	/* 256 MiB of a small file system */
	assert_string_equal(test_judge(&s, 0, 256 * MIB, GIB), "");
	assert_non_null(strstr(test_judge(&s, 0, 256 * MIB - 1, GIB),
			       "warning: the file system of /the/state has 255 MiB left"));
	assert_string_equal(test_judge(&s, 0, 257 * MIB, GIB), "");
	assert_int_equal(space_warnings(&s, texts), 1);
	assert_non_null(strstr(test_judge(&s, 0, 300 * MIB, GIB), "has room again"));
	/* a twentieth of a large one */
	assert_string_equal(test_judge(&s, 0, 5 * GIB, 100 * GIB), "");
	assert_non_null(strstr(test_judge(&s, 0, 5 * GIB - MIB, 100 * GIB), "has 5119 MiB left"));
	assert_int_equal(space_warnings(&s, texts), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_large_state),
		cmocka_unit_test(test_no_limit_no_warning),
		cmocka_unit_test(test_little_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
