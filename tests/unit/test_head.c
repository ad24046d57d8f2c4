/* The audit's head in the log: only what a power cut cannot take back, and only when it is new. */
#include "test_daemon.h"
#include "test_stderr.h"

#include "base/alloc.h"
#include "daemon/head.h"
#include "io/store_internal.h"

/* The store of the tests has durability = crash: what it commits may still be lost. */
static void test_note(const struct broker *b)
{
	struct change *c = change_new(b->d.turn, NULL, NULL);

	(void)change_audit(c, "test", "ok", NULL);
	change_submit(c);
	assert_int_equal(turn_end(b->d.turn), 0);
}

static char *test_line(const struct broker *b)
{
	char hash[2 * HASH_SIZE + 1];
	uint8_t head[HASH_SIZE];
	uint64_t sequence;

	store_audit_head(b->d.store, &sequence, head);
	crypt_hex(head, HASH_SIZE, hash);
	return xasprintf("audit head %llu:%s\n", (unsigned long long)sequence, hash);
}

static void test_a_new_head_is_synced_and_logged_once(void **state)
{
	struct broker *b = *state;
	struct capture c;

	for (int i = 0; i < 2; i++) {
		_cleanup_(freep) char *expected = NULL;

		test_note(b);
		expected = test_line(b);
		assert_true(b->d.store->has_unsynced);
		capture_begin(&c);
		assert_int_equal(head_log(&b->d), 0);
		assert_non_null(strstr(capture_end(&c), expected));
		assert_false(b->d.store->has_unsynced);
		capture_begin(&c);
		assert_int_equal(head_log(&b->d), 0);
		assert_string_equal(capture_end(&c), "");
	}
}

static void test_what_cannot_be_synced_is_not_logged(void **state)
{
	struct broker *b = *state;
	struct capture c;

	test_note(b);
	broker_lock(b);
	capture_begin(&c);
	assert_int_equal(head_log(&b->d), STORE_E_BUSY);
	assert_null(strstr(capture_end(&c), "audit head"));
	broker_unlock(b);
	capture_begin(&c);
	assert_int_equal(head_log(&b->d), 0);
	assert_non_null(strstr(capture_end(&c), "audit head 1:"));
}

static void test_an_empty_audit_has_no_head(void **state)
{
	struct broker *b = *state;
	struct capture c;

	capture_begin(&c);
	assert_int_equal(head_log(&b->d), 0);
	assert_string_equal(capture_end(&c), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BROKER_TEST(test_a_new_head_is_synced_and_logged_once),
		BROKER_TEST(test_what_cannot_be_synced_is_not_logged),
		BROKER_TEST(test_an_empty_audit_has_no_head),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
