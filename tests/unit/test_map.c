/* Hash tables keyed by bytes: found again, told apart, and not foreseeable from outside. */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/map.h"

struct entry {
	char name[16];
	int number;
	UT_hash_handle hh;
};

static void test_equal_keys_have_equal_hashes(void **state)
{
	char a[] = "name", b[] = "name";

	(void)state;
	assert_int_equal(map_hash(a, 4), map_hash(b, 4));
	assert_int_not_equal(map_hash(a, 4), map_hash(a, 3));
	assert_int_equal(map_hash(a, 0), map_hash(b, 0));
}

/* Keys that differ in one bit must spread: 4096 into 256 buckets are about 16 each. */
static void test_similar_keys_spread(void **state)
{
	int counts[256] = { 0 };

	(void)state;
	for (uint32_t i = 0; i < 4096; i++)
		counts[map_hash(&i, sizeof(i)) & 255]++;
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
		assert_true(counts[i] < 60);
}

static void test_a_table_finds_what_is_in_it(void **state)
{
	struct entry *table = NULL, *found, *next;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		struct entry *e = calloc(1, sizeof(*e));

		assert_non_null(e);
		(void)snprintf(e->name, sizeof(e->name), "key-%d", i);
		e->number = i;
		HASH_ADD_STR(table, name, e);
	}
	assert_int_equal(HASH_COUNT(table), 1000);
	HASH_FIND_STR(table, "key-999", found);
	assert_non_null(found);
	assert_int_equal(found->number, 999);
	HASH_FIND_STR(table, "key-1000", found);
	assert_null(found);
	HASH_ITER (hh, table, found, next) {
		HASH_DEL(table, found);
		free(found);
	}
	assert_null(table);
}

static unsigned test_hash_of_another_run(const char *self)
{
	char text[32] = "";
	int fds[2], status = 0;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)dup2(fds[1], STDOUT_FILENO);
		(void)execl(self, self, "hash", (char *)NULL);
		_exit(127);
	}
	(void)close(fds[1]);
	assert_true(read(fds[0], text, sizeof(text) - 1) > 0);
	(void)close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	return (unsigned)strtoul(text, NULL, 10);
}

/* Three equal draws of 32 bits by chance: once in 10^19 runs. */
static void test_each_process_has_a_key_of_its_own(void **state)
{
	unsigned first = test_hash_of_another_run("/proc/self/exe");
	unsigned second = test_hash_of_another_run("/proc/self/exe");

	(void)state;
	assert_false(first == second && second == map_hash("name", 4));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_equal_keys_have_equal_hashes),
		cmocka_unit_test(test_similar_keys_spread),
		cmocka_unit_test(test_a_table_finds_what_is_in_it),
		cmocka_unit_test(test_each_process_has_a_key_of_its_own),
	};

	if (argc == 2 && strcmp(argv[1], "hash") == 0)
		return printf("%u\n", map_hash("name", 4)) < 0;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
