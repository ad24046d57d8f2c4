/*
 * The turn's end: all that was collected is committed together or not at all, and neither memory
 * nor any caller hears of what is not on the disk.
 */
#include "test_daemon.h"

#include "io/store_audit_prune.h"

/* What callbacks saw, in their order. */
static struct {
	char calls[64];
	int outcomes[64];
	size_t n;
} test_seen;

static int test_setup(void **state)
{
	memset(&test_seen, 0, sizeof(test_seen));
	return broker_setup(state);
}

#define TURN_TEST(f) cmocka_unit_test_setup_teardown(f, test_setup, broker_teardown)

/* The userdata of test_done(): the letter to remember. */
static void *test_as(char letter)
{
	static char letters[128];

	letters[(int)letter] = letter;
	return &letters[(int)letter];
}

static void test_done(void *userdata, int outcome)
{
	test_seen.calls[test_seen.n] = *(const char *)userdata;
	test_seen.outcomes[test_seen.n++] = outcome;
}

static void test_change_state(struct broker *b, struct key *k, enum key_state state, char letter)
{
	struct change *c = change_new(b->d.turn, letter ? test_done : NULL, test_as(letter));
	struct audit_row *a = change_audit(c, "test", "ok", NULL);
	struct key_row to = { .state = state, .changed_at_ms = a->wall_ms };

	change_key(c, k, KEY_SET_STATE, &to);
	change_submit(c);
}

static struct key_row test_stored(const struct broker *b, const char *hash)
{
	struct key_row row;

	assert_int_equal(store_key_by_hash(b->d.store, hash, &row), 0);
	return row;
}

static void test_memory_follows_the_commit(void **state)
{
	struct broker *b = *state;
	struct key *k = broker_key(b, "key-1", PROFILE_SHARED);

	test_change_state(b, k, KEY_RETIRING, 'a');
	assert_int_equal(k->row.state, KEY_LIVE);
	assert_int_equal(test_seen.n, 0);
	assert_int_equal(turn_end(b->d.turn), 0);
	assert_int_equal(k->row.state, KEY_RETIRING);
	assert_int_equal(k->row.term, b->d.term);
	assert_true(k->row.changed_at_ms > 1700000000003);
	assert_int_equal(test_stored(b, "hash-of-key-1").state, KEY_RETIRING);
	assert_int_equal(test_audit_count(b->d.store), 1);
	assert_string_equal(test_seen.calls, "a");
	assert_int_equal(test_seen.outcomes[0], 0);
	assert_int_equal(k->pins, 0);
}

static void test_without_a_commit_nothing_has_happened(void **state)
{
	struct broker *b = *state;
	struct key *k = broker_key(b, "key-1", PROFILE_SHARED);

	broker_lock(b);
	test_change_state(b, k, KEY_RETIRING, 'a');
	assert_int_equal(turn_end(b->d.turn), 0);
	broker_unlock(b);
	assert_string_equal(test_seen.calls, "a");
	assert_int_equal(test_seen.outcomes[0], STORE_E_BUSY);
	assert_int_equal(k->row.state, KEY_LIVE);
	assert_int_equal(k->row.changed_at_ms, 1700000000003);
	assert_int_equal(k->pins, 0);
	assert_int_equal(test_stored(b, "hash-of-key-1").state, KEY_LIVE);
	assert_int_equal(test_audit_count(b->d.store), 0);
	/* the failed draft leaves no trace in the next change */
	test_change_state(b, k, KEY_DELETED, 'b');
	key_pin(k);
	assert_int_equal(turn_end(b->d.turn), 0);
	assert_string_equal(test_seen.calls, "ab");
	assert_int_equal(test_seen.outcomes[1], 0);
	assert_int_equal(k->row.state, KEY_DELETED);
	key_unpin(k);
}

/* One change that can't be written takes all of its turn along. */
static void test_a_turn_is_one_transaction(void **state)
{
	struct broker *b = *state;
	struct key *first = broker_key(b, "key-1", PROFILE_SHARED);
	struct key *second = broker_key(b, "key-2", PROFILE_SHARED);
	struct key *third = broker_key(b, "key-3", PROFILE_SHARED);

	broker_sql(b, "CREATE TRIGGER poison BEFORE INSERT ON key WHEN new.id = 'key-2'"
		      " BEGIN SELECT RAISE(ABORT, 'poison'); END");
	test_change_state(b, first, KEY_RETIRING, 'a');
	test_change_state(b, second, KEY_RETIRING, 'b');
	test_change_state(b, third, KEY_RETIRING, 'c');
	assert_int_equal(turn_end(b->d.turn), 0);
	assert_string_equal(test_seen.calls, "abc");
	for (size_t i = 0; i < 3; i++)
		assert_true(test_seen.outcomes[i] < 0);
	assert_int_equal(first->row.state, KEY_LIVE);
	assert_int_equal(third->row.state, KEY_LIVE);
	assert_int_equal(broker_count(b, "SELECT count(*) FROM key WHERE state <> 'live'"), 0);
	assert_int_equal(test_audit_count(b->d.store), 0);
	broker_sql(b, "DROP TRIGGER poison");
	test_change_state(b, first, KEY_RETIRING, 'd');
	assert_int_equal(turn_end(b->d.turn), 0);
	assert_int_equal(first->row.state, KEY_RETIRING);
}

static int test_store_note(struct store *s, void *userdata)
{
	(void)userdata;
	return store_set_audit_exported(s, 17);
}

static int test_store_fails(struct store *s, void *userdata)
{
	(void)s;
	(void)userdata;
	return STORE_E_FULL;
}

/* What a change writes besides is in its transaction, or nothing of it is. */
static void test_a_write_of_its_own(void **state)
{
	struct broker *b = *state;
	struct change *c = change_new(b->d.turn, test_done, test_as('a'));
	uint64_t exported;

	change_store(c, test_store_note);
	(void)change_audit(c, "test", "ok", NULL);
	change_submit(c);
	assert_int_equal(turn_end(b->d.turn), 0);
	assert_int_equal(store_audit_exported(b->d.store, &exported), 0);
	assert_int_equal(exported, 17);

	c = change_new(b->d.turn, test_done, test_as('b'));
	(void)change_audit(c, "test", "ok", NULL);
	change_store(c, test_store_fails);
	change_submit(c);
	assert_int_equal(turn_end(b->d.turn), 0);
	assert_string_equal(test_seen.calls, "ab");
	assert_int_equal(test_seen.outcomes[1], STORE_E_FULL);
	assert_int_equal(test_audit_count(b->d.store), 1);
}

static struct {
	const struct broker *b;
	struct key *k;
	int64_t rows;
	enum key_state state;
} test_view;

static void test_look(void *userdata, int outcome)
{
	test_done(userdata, outcome);
	test_view.rows = broker_count(test_view.b, "SELECT count(*) FROM audit");
	test_view.state = test_view.k->row.state;
}

/* The first callback already finds every row on the disk and every object up to date. */
static void test_callbacks_come_in_order_after_the_whole_commit(void **state)
{
	struct broker *b = *state;
	struct key *k = broker_key(b, "key-1", PROFILE_SHARED);
	struct change *c = change_new(b->d.turn, test_look, test_as('a'));

	test_view.b = b;
	test_view.k = k;
	(void)change_audit(c, "first", "ok", NULL);
	(void)change_audit(c, "second", "ok", NULL);
	change_submit(c);
	test_change_state(b, k, KEY_RETIRING, 'b');
	test_change_state(b, k, KEY_DELETED, 0);
	c = change_new(b->d.turn, test_done, test_as('c'));
	(void)change_audit(c, "last", "ok", NULL);
	change_submit(c);
	key_pin(k);
	assert_int_equal(turn_end(b->d.turn), 0);
	assert_string_equal(test_seen.calls, "abc");
	assert_int_equal(test_view.rows, 5);
	assert_int_equal(test_view.state, KEY_DELETED);
	key_unpin(k);
}

static void test_changes_of_one_key_build_on_each_other(void **state)
{
	struct broker *b = *state;
	struct key *k = broker_key(b, "key-1", PROFILE_SHARED);
	struct key_row to = { .alias = "renamed", .expires_at_ms = 5, .delete_at_ms = 6 };
	const unsigned sets[] = { KEY_SET_ALIAS, KEY_SET_EXPIRY };
	struct key_row stored;

	for (size_t i = 0; i < ARRAY_SIZE(sets); i++) {
		struct change *c = change_new(b->d.turn, NULL, NULL);

		change_key(c, k, sets[i], &to);
		change_submit(c);
	}
	assert_string_equal(k->row.alias, "agents-service");
	assert_int_equal(turn_end(b->d.turn), 0);
	stored = test_stored(b, "hash-of-key-1");
	assert_string_equal(stored.alias, "renamed");
	assert_int_equal(stored.expires_at_ms, 5);
	assert_int_equal(stored.delete_at_ms, 1700000000004); /* nobody set it */
	assert_string_equal(k->row.alias, "renamed");
	assert_int_equal(k->row.expires_at_ms, 5);
	assert_int_equal(k->row.delete_at_ms, 1700000000004);
}

/* What the state machine forbids is not done, whatever order changes come in. */
static void test_a_deleted_key_stays_deleted(void **state)
{
	struct broker *b = *state;
	struct key *k = broker_key(b, "key-1", PROFILE_SHARED);

	test_change_state(b, k, KEY_DELETED, 0);
	test_change_state(b, k, KEY_LIVE, 0);
	assert_int_equal(turn_end(b->d.turn), 0);
	assert_int_equal(test_stored(b, "hash-of-key-1").state, KEY_DELETED);
	assert_null(keys_find(b->d.keys, "key-1")); /* it went with the last change that named it */
}

static void test_two_keys_in_one_change(void **state)
{
	struct broker *b = *state;
	struct key *old = broker_key(b, "key-1", PROFILE_SHARED);
	struct key_row row = test_key("key-2");
	struct key *next = key_add(&b->d, &row);
	struct change *c = change_new(b->d.turn, test_done, test_as('a'));
	struct key_row to = { .state = KEY_RETIRING };
	_cleanup_(secret_freep) struct secret *secret = secret_new("sk-next", 7);
	_cleanup_(secret_freep) struct secret *stored = NULL, *none = NULL;

	change_key(c, old, KEY_SET_STATE, &to);
	change_key(c, next, KEY_SET_ALL, &row);
	change_key_secret(c, secret);
	change_submit(c);
	assert_int_equal(turn_end(b->d.turn), 0);
	assert_int_equal(old->row.state, KEY_RETIRING);
	assert_int_equal(test_stored(b, "hash-of-key-2").state, KEY_LIVE);
	assert_int_equal(store_key_secret(b->d.store, "key-2", &stored), 0);
	assert_true(secret_equal(stored, secret));
	assert_int_equal(store_key_secret(b->d.store, "key-1", &none), -ENOENT);
}

static void test_late(void *userdata)
{
	struct broker *b = userdata;
	struct change *c = change_new(b->d.turn, test_done, test_as('l'));

	test_seen.calls[test_seen.n++] = 'L';
	(void)change_audit(c, "late", "ok", NULL);
	change_submit(c);
}

static void test_late_callbacks_run_once_and_before_the_commit(void **state)
{
	struct broker *b = *state;
	struct change *c = change_new(b->d.turn, test_done, test_as('a'));

	turn_late(b->d.turn, test_late, b);
	(void)change_audit(c, "early", "ok", NULL);
	change_submit(c);
	assert_int_equal(test_seen.n, 0);
	assert_int_equal(turn_end(b->d.turn), 0);
	assert_string_equal(test_seen.calls, "Lal");
	assert_int_equal(test_audit_count(b->d.store), 2);
	assert_int_equal(turn_end(b->d.turn), 0);
	assert_string_equal(test_seen.calls, "Lal");
}

/* Alone they are reason enough for a commit. */
static void test_a_late_callback_can_be_taken_back(void **state)
{
	struct broker *b = *state;
	int other = 0;

	turn_late(b->d.turn, test_late, b);
	turn_late(b->d.turn, test_late, b);
	turn_late_cancel(b->d.turn, &other);
	turn_late_cancel(b->d.turn, b);
	assert_int_equal(turn_end(b->d.turn), 0);
	assert_string_equal(test_seen.calls, "");
	turn_late(b->d.turn, test_late, b);
	assert_int_equal(turn_end(b->d.turn), 0);
	assert_string_equal(test_seen.calls, "Ll");
}

static void test_again(void *userdata, int outcome)
{
	struct broker *b = userdata;
	struct change *c;

	test_done(test_as('x'), outcome);
	if (test_seen.n >= 3)
		return;
	c = change_new(b->d.turn, test_again, b);
	(void)change_audit(c, "again", "ok", NULL);
	change_submit(c);
}

static void test_what_a_callback_submits_is_committed_too(void **state)
{
	struct broker *b = *state;
	struct change *c = change_new(b->d.turn, test_again, b);

	change_submit(c);
	assert_int_equal(turn_end(b->d.turn), 0);
	assert_string_equal(test_seen.calls, "xxx");
	assert_int_equal(test_audit_count(b->d.store), 2);
}

static void test_an_empty_turn_needs_no_store(void **state)
{
	struct broker *b = *state;

	broker_lock(b);
	assert_int_equal(turn_end(b->d.turn), 0);
	broker_unlock(b);
}

static void test_a_fenced_turn_tells_nobody(void **state)
{
	struct broker *b = *state;
	struct key *k = broker_key(b, "key-1", PROFILE_SHARED);
	_cleanup_(store_freep) struct store *next = test_open(b->place);

	assert_int_equal(test_claim(next, "holder-b"), 0);
	test_change_state(b, k, KEY_RETIRING, 'a');
	assert_int_equal(turn_end(b->d.turn), STORE_E_FENCED);
	assert_int_equal(test_seen.n, 0);
	assert_int_equal(k->row.state, KEY_LIVE);
	assert_int_equal(k->pins, 0);
	assert_int_equal(broker_count(b, "SELECT count(*) FROM audit"), 0);
	assert_int_equal(broker_count(b, "SELECT count(*) FROM key WHERE state <> 'live'"), 0);
}

/* Puts a descriptor that can't be written where the store has its log. */
static int test_break_log(const struct place *p)
{
	char path[192], link[64], target[192];
	int broken;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "%s-wal", p->file);
	broken = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(broken >= 0);
	for (int fd = 3; fd < 64; fd++) {
		(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		n = readlink(link, target, sizeof(target) - 1);
		target[n > 0 ? n : 0] = '\0';
		if (fd != broken && strcmp(target, path) == 0)
			CHECK(dup2(broken, fd) == fd);
	}
	return 0;
}

static struct broker *test_broker;

static int test_on_a_broken_disk(const struct place *p)
{
	struct broker *b = test_broker;
	struct change *c = change_new(b->d.turn, test_done, test_as('a'));
	int line;

	(void)change_audit(c, "test", "ok", NULL);
	change_submit(c);
	CHECK(turn_end(b->d.turn) == 0);
	CHECK(test_seen.n == 1);
	line = test_break_log(p);
	CHECK(line == 0);
	c = change_new(b->d.turn, test_done, test_as('b'));
	(void)change_audit(c, "test", "ok", NULL);
	change_submit(c);
	CHECK(turn_end(b->d.turn) == -EIO);
	CHECK(test_seen.n == 1);
	return 0;
}

static int test_on_a_broken_disk_quietly(const struct place *p)
{
	(void)close(STDERR_FILENO); /* it says so, and rightly */
	(void)open("/dev/null", O_WRONLY | O_CLOEXEC);
	return test_on_a_broken_disk(p);
}

static void test_a_broken_disk_ends_it_and_tells_nobody(void **state)
{
	struct broker *b = *state;

	test_broker = b;
	assert_int_equal(test_in_child(test_on_a_broken_disk_quietly, b->place), 0);
}

static int test_keep_row(const struct audit_row *row, void *userdata)
{
	*(struct audit_row *)userdata = *row;
	return 0;
}

static void test_audit_rows_say_who_when_and_where(void **state)
{
	struct broker *b = *state;
	const struct peer peer = { .uid = 5, .gid = 6, .pid = 7, .unit = "x.service" };
	struct instant before = clock_now();
	struct change *c = change_new(b->d.turn, NULL, NULL);
	struct audit_row row;

	(void)change_audit(c, "acquire", "denied", &peer);
	change_submit(c);
	assert_int_equal(turn_end(b->d.turn), 0);
	assert_int_equal(store_each_audit(b->d.store, 0, 10, test_keep_row, &row), 0);
	assert_string_equal(row.event, "acquire");
	assert_string_equal(row.outcome, "denied");
	assert_string_equal(row.instance, "main");
	assert_string_equal(row.unit, "x.service");
	assert_int_equal(row.sequence, 1);
	assert_int_equal(row.term, b->d.term);
	assert_true(row.uid == 5 && row.gid == 6 && row.pid == 7);
	assert_true(row.boot_ms >= before.boot_ms && row.boot_ms <= clock_now().boot_ms);
	assert_true(row.wall_ms > 1700000000000);
	c = change_new(b->d.turn, NULL, NULL);
	(void)change_audit(c, "sweep", "ok", NULL);
	change_submit(c);
	assert_int_equal(turn_end(b->d.turn), 0);
	assert_int_equal(store_each_audit(b->d.store, 1, 10, test_keep_row, &row), 0);
	assert_true(row.uid == -1 && row.gid == -1 && row.pid == -1);
}

/* Freed with changes and late callbacks in it: pins are given back, nobody is called. */
static void test_a_dropped_turn_calls_nobody(void **state)
{
	struct broker *b = *state;
	struct key *k = broker_key(b, "key-1", PROFILE_SHARED);

	test_change_state(b, k, KEY_RETIRING, 'a');
	turn_late(b->d.turn, test_late, b);
	assert_int_equal(k->pins, 1);
	turn_free(b->d.turn);
	b->d.turn = NULL;
	turn_free(NULL);
	assert_int_equal(k->pins, 0);
	assert_int_equal(test_seen.n, 0);
	assert_int_equal(test_audit_count(b->d.store), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TURN_TEST(test_memory_follows_the_commit),
		TURN_TEST(test_without_a_commit_nothing_has_happened),
		TURN_TEST(test_a_turn_is_one_transaction),
		TURN_TEST(test_a_write_of_its_own),
		TURN_TEST(test_callbacks_come_in_order_after_the_whole_commit),
		TURN_TEST(test_changes_of_one_key_build_on_each_other),
		TURN_TEST(test_a_deleted_key_stays_deleted),
		TURN_TEST(test_two_keys_in_one_change),
		TURN_TEST(test_late_callbacks_run_once_and_before_the_commit),
		TURN_TEST(test_a_late_callback_can_be_taken_back),
		TURN_TEST(test_what_a_callback_submits_is_committed_too),
		TURN_TEST(test_an_empty_turn_needs_no_store),
		TURN_TEST(test_a_fenced_turn_tells_nobody),
		TURN_TEST(test_a_broken_disk_ends_it_and_tells_nobody),
		TURN_TEST(test_audit_rows_say_who_when_and_where),
		TURN_TEST(test_a_dropped_turn_calls_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
