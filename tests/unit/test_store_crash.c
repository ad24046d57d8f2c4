/* kill -9: what was committed is there, what was not is gone, and the next leader goes on. */
#include "test_store.h"

#include <signal.h>

/* Commits two rows, says so, and is killed with a third and a key written but not committed. */
static void test_die_in_a_turn(const struct place *p, int out)
{
	struct store *s = NULL;
	struct key_row key = test_key("key-1");
	struct audit_row row = test_audit("acquire");
	bool ok = store_open(&s, p->dir, DURABILITY_CRASH, p->keyring) == 0 &&
		  test_claim(s, "holder-a") == 0 && test_audit_turn(s, 2) == 0 &&
		  store_begin(s) == 0 && store_append_audit(s, &row) == 0 &&
		  store_put_key(s, &key, NULL) == 0;

	if (ok && write(out, "x", 1) == 1)
		for (;;)
			(void)pause();
	_exit(1);
}

static void test_a_killed_turn_never_was(void **state)
{
	const struct place *p = *state;
	struct store *s;
	struct key_row found;
	int out[2], status;
	char byte;
	pid_t pid;

	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		test_die_in_a_turn(p, out[1]);
	(void)close(out[1]);
	assert_int_equal(read(out[0], &byte, 1), 1);
	(void)close(out[0]);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));

	s = test_open(p);
	assert_int_equal(store_begin(s), STORE_E_FENCED);
	assert_int_equal(test_claim(s, "holder-b"), 0);
	assert_int_equal(store_term(s), 2);
	assert_int_equal(test_audit_count(s), 2);
	assert_int_equal(store_key_by_hash(s, "hash-of-key-1", &found), -ENOENT);
	assert_int_equal(test_audit_turn(s, 1), 0);
	store_free(s);
}

/* Commits one row after the other, and says after each how many there are. */
static void test_commit_for_ever(const struct place *p, int out)
{
	struct store *s = NULL;
	uint64_t sequence;
	uint8_t hash[HASH_SIZE];
	bool ok = store_open(&s, p->dir, DURABILITY_CRASH, p->keyring) == 0 &&
		  test_claim(s, "holder-a") == 0;

	while (ok) {
		ok = test_audit_turn(s, 1) == 0 && store_checkpoint(s) == 0;
		store_audit_head(s, &sequence, hash);
		ok = ok && write(out, &sequence, sizeof(sequence)) == sizeof(sequence);
	}
	_exit(1);
}

static void test_what_was_acknowledged_survives_a_kill(void **state)
{
	const struct place *p = *state;
	uint64_t acknowledged = 0;
	struct store *s;
	int out[2], status;
	pid_t pid;

	/* at other moments each round, since each is killed after as many rows more */
	for (uint64_t round = 1; round <= 20; round++) {
		uint64_t until = acknowledged + 3 * round;

		assert_int_equal(pipe2(out, O_CLOEXEC), 0);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			test_commit_for_ever(p, out[1]);
		(void)close(out[1]);
		while (acknowledged < until)
			assert_int_equal(read(out[0], &acknowledged, sizeof(acknowledged)),
					 sizeof(acknowledged));
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		while (read(out[0], &acknowledged, sizeof(acknowledged)) > 0)
			;
		(void)close(out[0]);
		s = test_open(p);
		/* one more may have been committed without a word */
		assert_in_range(test_audit_count(s), acknowledged, acknowledged + 1);
		acknowledged = test_audit_count(s);
		store_free(s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_a_killed_turn_never_was),
		STORE_TEST(test_what_was_acknowledged_survives_a_kill),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
