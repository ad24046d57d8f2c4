/* Keys, leases and their secrets: what is put comes back, sealed in between. */
#include "test_store.h"

#include "io/store_internal.h"

static void test_put_key(struct store *s, const struct key_row *row, const struct secret *secret)
{
	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_put_key(s, row, secret), 0);
	assert_int_equal(store_commit(s), 0);
}

static void test_put_lease(struct store *s, const struct lease_row *row)
{
	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_put_lease(s, row), 0);
	assert_int_equal(store_commit(s), 0);
}

static void test_assert_key_equal(const struct key_row *a, const struct key_row *b)
{
	assert_string_equal(a->id, b->id);
	assert_string_equal(a->profile, b->profile);
	assert_int_equal(a->mode, b->mode);
	assert_int_equal(a->state, b->state);
	assert_int_equal(a->source, b->source);
	assert_int_equal(a->generation, b->generation);
	assert_string_equal(a->hash, b->hash);
	assert_string_equal(a->alias, b->alias);
	assert_string_equal(a->team_id, b->team_id);
	assert_int_equal(a->uid, b->uid);
	assert_string_equal(a->request_id, b->request_id);
	assert_int_equal(a->term, b->term);
	assert_int_equal(a->created_at_ms, b->created_at_ms);
	assert_int_equal(a->expires_at_ms, b->expires_at_ms);
	assert_int_equal(a->changed_at_ms, b->changed_at_ms);
	assert_int_equal(a->delete_at_ms, b->delete_at_ms);
	assert_string_equal(a->settings, b->settings);
	assert_int_equal(a->at_once, b->at_once);
}

static void test_every_value_of_a_key_comes_back(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	struct key_row row = test_key("key-1"), found;

	for (int mode = PROFILE_SHARED; mode <= PROFILE_STATIC; mode++) {
		for (int k = 0; k < KEY_N_STATES; k++) {
			row.mode = (enum profile_mode)mode;
			row.state = (enum key_state)k;
			row.source = (enum key_source)(k % 4);
			(void)snprintf(row.settings, sizeof(row.settings), "settings-%d", k);
			row.at_once = k % 2;
			test_put_key(s, &row, NULL);
			assert_int_equal(store_key_by_hash(s, row.hash, &found), 0);
			test_assert_key_equal(&row, &found);
		}
	}
	assert_int_equal(store_key_by_hash(s, "unknown", &found), -ENOENT);
}

static int test_keep_lease(const struct lease_row *row, void *userdata)
{
	*(struct lease_row *)userdata = *row;
	return 0;
}

static int test_lease_rows(struct store *s)
{
	sqlite3_stmt *stmt;
	int n;

	assert_int_equal(
		sqlite3_prepare_v2(s->turn.db, "SELECT count(*) FROM lease", -1, &stmt, NULL),
		SQLITE_OK);
	assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
	n = sqlite3_column_int(stmt, 0);
	assert_int_equal(sqlite3_finalize(stmt), SQLITE_OK);
	return n;
}

/* SQLite 3.40's quick_check, which each start runs, takes some orders of columns for damage. */
static void test_a_state_with_leases_opens_again(void **state)
{
	const struct place *p = *state;
	struct store *s = test_open_leading(p);
	struct lease_row row = test_lease("lease-1");

	test_put_lease(s, &row);
	row.id[6] = '2';
	row.state = LEASE_EXPIRED;
	row.ended_at_ms = 1700000000010;
	test_put_lease(s, &row);
	store_free(s);
	s = test_open(p);
	assert_int_equal(test_lease_rows(s), 2);
	store_free(s);
}

/* SQLite would ignore a row that breaks a rule of its table; we don't. */
static void test_a_lease_is_active_or_has_an_end(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	struct lease_row row = test_lease("lease-1");

	for (int i = 0; i < 2; i++) {
		row.state = i == 0 ? LEASE_ACTIVE : LEASE_RELEASED;
		row.ended_at_ms = i == 0 ? 1700000000010 : 0;
		assert_int_equal(store_begin(s), 0);
		assert_int_equal(store_put_lease(s, &row), -EPROTO);
		assert_int_equal(store_commit(s), -EPROTO);
	}
}

static void test_every_value_of_a_lease_comes_back(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	struct lease_row row = test_lease("lease-1"), found = { 0 };

	for (int bind = LEASE_PROCESS; bind <= LEASE_TTL; bind++) {
		row.bind = (enum lease_bind)bind;
		row.refreshable = bind == LEASE_TTL;
		test_put_lease(s, &row);
		assert_int_equal(store_each_lease(s, test_keep_lease, &found), 0);
		assert_string_equal(row.id, found.id);
		assert_string_equal(row.key_id, found.key_id);
		assert_string_equal(row.profile, found.profile);
		assert_string_equal(row.rule, found.rule);
		assert_int_equal(row.state, found.state);
		assert_int_equal(row.bind, found.bind);
		assert_int_equal(row.refreshable, found.refreshable);
		assert_int_equal(row.uid, found.uid);
		assert_int_equal(row.gid, found.gid);
		assert_int_equal(row.pid, found.pid);
		assert_int_equal(row.holder_pid, found.holder_pid);
		assert_int_equal(row.holder_start, found.holder_start);
		assert_string_equal(row.boot_id, found.boot_id);
		assert_string_equal(row.request_id, found.request_id);
		assert_int_equal(row.term, found.term);
		assert_int_equal(row.granted_at_ms, found.granted_at_ms);
		assert_int_equal(row.ends_at_ms, found.ends_at_ms);
		assert_int_equal(row.ended_at_ms, found.ended_at_ms);
		assert_int_equal(row.ends_boot_ms, found.ends_boot_ms);
	}
}

struct tally {
	int n, stop_at;
};

static int test_tally_lease(const struct lease_row *row, void *userdata)
{
	struct tally *t = userdata;

	assert_int_equal(row->state, LEASE_ACTIVE);
	t->n++;
	return t->n == t->stop_at ? -ECANCELED : 0;
}

static int test_tally_key(const struct key_row *row, void *userdata)
{
	struct tally *t = userdata;

	(void)row;
	t->n++;
	return t->n == t->stop_at ? 42 : 0;
}

static void test_only_active_leases_are_visited(void **state)
{
	static const enum lease_state states[] = { LEASE_ACTIVE, LEASE_RELEASED, LEASE_EXPIRED,
						   LEASE_REVOKED, LEASE_ACTIVE };
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	struct tally all = { 0 }, one = { .stop_at = 1 };

	for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
		struct lease_row row = test_lease("lease-0");

		row.id[6] = (char)('0' + i);
		test_put_lease(s, &row);
		row.state = states[i];
		row.ended_at_ms = row.state == LEASE_ACTIVE ? 0 : 1700000000010;
		test_put_lease(s, &row);
		test_put_lease(s, &row); /* as it is */
	}
	assert_int_equal(store_each_lease(s, test_tally_lease, &all), 0);
	assert_int_equal(all.n, 2);
	assert_int_equal(test_lease_rows(s), ARRAY_SIZE(states)); /* one each */
	assert_int_equal(store_each_lease(s, test_tally_lease, &one), -ECANCELED);
	assert_int_equal(one.n, 1);
	/* a visit that was stopped holds no lock on anything */
	assert_int_equal(test_audit_turn(s, 1), 0);
}

static void test_deleted_keys_are_visited_on_request(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	struct tally kept = { 0 }, all = { 0 }, one = { .stop_at = 1 };

	for (int k = 0; k < KEY_N_STATES; k++) {
		struct key_row row = test_key("key-0");

		row.id[4] = (char)('0' + k);
		row.state = (enum key_state)k;
		test_put_key(s, &row, NULL);
	}
	assert_int_equal(store_each_key(s, false, test_tally_key, &kept), 0);
	assert_int_equal(kept.n, KEY_N_STATES - 1);
	assert_int_equal(store_each_key(s, true, test_tally_key, &all), 0);
	assert_int_equal(all.n, KEY_N_STATES);
	assert_int_equal(store_each_key(s, true, test_tally_key, &one), 42);
	assert_int_equal(one.n, 1);
}

static void test_a_hash_finds_the_row_that_still_counts(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	struct key_row old = test_key("key-0"), row = test_key("key-1"), found;

	(void)snprintf(old.hash, sizeof(old.hash), "same");
	(void)snprintf(row.hash, sizeof(row.hash), "same");
	old.state = KEY_DELETED;
	old.created_at_ms = row.created_at_ms + 1;
	test_put_key(s, &row, NULL);
	test_put_key(s, &old, NULL);
	assert_int_equal(store_key_by_hash(s, "same", &found), 0);
	assert_string_equal(found.id, "key-1");

	row.hash[0] = '\0'; /* upstream has yet to choose it: nothing to find it by */
	test_put_key(s, &row, NULL);
	assert_int_equal(store_key_by_hash(s, "", &found), -ENOENT);
}

static void test_generations_count_deleted_keys_too(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	struct key_row row = test_key("key-1");
	uint64_t generation = 99;

	assert_int_equal(store_last_generation(s, "service", &generation), 0);
	assert_int_equal(generation, 0);
	row.generation = 7;
	row.state = KEY_DELETED;
	test_put_key(s, &row, NULL);
	(void)snprintf(row.id, sizeof(row.id), "key-2");
	row.generation = 2;
	row.state = KEY_LIVE;
	test_put_key(s, &row, NULL);
	assert_int_equal(store_last_generation(s, "service", &generation), 0);
	assert_int_equal(generation, 7);
	assert_int_equal(store_last_generation(s, "other", &generation), 0);
	assert_int_equal(generation, 0);
}

static void test_a_secret_comes_back_until_its_key_is_deleted(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	_cleanup_(secret_freep) struct secret *secret = secret_new("sk-first", 8), *found = NULL;
	struct key_row row = test_key("key-1");

	assert_int_equal(store_key_secret(s, "key-1", &found), -ENOENT);
	row.state = KEY_INTENT;
	test_put_key(s, &row, NULL);
	assert_int_equal(store_key_secret(s, "key-1", &found), -ENOENT);
	test_put_key(s, &row, secret);
	row.state = KEY_LIVE;
	test_put_key(s, &row, NULL); /* stays */
	assert_int_equal(store_key_secret(s, "key-1", &found), 0);
	assert_true(secret_equal(secret, found));
	secret_free(TAKE(found));

	row.state = KEY_DELETED;
	test_put_key(s, &row, secret); /* not even then */
	assert_int_equal(store_key_secret(s, "key-1", &found), -ENOENT);
	assert_null(found);
}

static void test_the_longest_secret_fits(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	_cleanup_(secret_freep) struct secret *secret = secret_new_empty(SECRET_MAX), *found = NULL;
	struct key_row row = test_key("key-1");

	memset(secret_bytes(secret), 'x', SECRET_MAX);
	test_put_key(s, &row, secret);
	assert_int_equal(store_key_secret(s, "key-1", &found), 0);
	assert_true(secret_equal(secret, found));
}

static bool test_file_has(const char *file, const char *suffix, const void *bytes, size_t n)
{
	char path[192];
	size_t size = 0;
	char *data;
	bool found;

	(void)snprintf(path, sizeof(path), "%s%s", file, suffix);
	data = test_read_file(path, &size);
	found = data && memmem(data, size, bytes, n);
	free(data);
	return found;
}

static void test_no_file_holds_a_secret_in_clear(void **state)
{
	static const char text[] = "sk-to-be-looked-for-in-the-files";
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	_cleanup_(secret_freep) struct secret *secret = secret_new(text, strlen(text));
	struct key_row row = test_key("key-1");

	test_put_key(s, &row, secret);
	assert_true(test_file_has(p->file, "-wal", "agents-service", 14)); /* it is that file */
	assert_false(test_file_has(p->file, "-wal", text, strlen(text)));
	assert_false(test_file_has(p->file, "-wal", text + 8, 16));
	s->wal_pages = STORE_CHECKPOINT_PAGES;
	assert_int_equal(store_checkpoint(s), 0);
	assert_true(test_file_has(p->file, "", "agents-service", 14));
	assert_false(test_file_has(p->file, "", text, strlen(text)));
}

static void test_sql(const struct place *p, const char *sql)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(p->file, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void test_a_sealed_secret_moved_to_another_key_does_not_open(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	_cleanup_(secret_freep) struct secret *secret = secret_new("sk-first", 8), *found = NULL;
	struct key_row a = test_key("key-a"), b = test_key("key-b");

	test_put_key(s, &a, secret);
	test_put_key(s, &b, secret);
	test_sql(p, "DROP TRIGGER key_fence_UPDATE; UPDATE key SET secret ="
		    " (SELECT secret FROM key WHERE id = 'key-a') WHERE id = 'key-b'");
	assert_int_equal(store_key_secret(s, "key-b", &found), -EBADMSG);
	assert_int_equal(store_key_secret(s, "key-a", &found), 0);
}

/* Does any piece of the sealed value stand in the database? */
static bool test_database_has_piece(const struct place *p, const uint8_t *sealed, size_t n)
{
	for (size_t at = 0; at + 16 <= n; at += 16)
		if (test_file_has(p->file, "", sealed + at, 16))
			return true;
	return false;
}

/*
 * The database forgets at the next checkpoint. The log keeps its old frames until it is written
 * from its start again: sealed, of a key that is gone upstream.
 */
static void test_a_deleted_keys_secret_leaves_the_database(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	_cleanup_(secret_freep) struct secret *secret = secret_new_empty(600);
	struct key_row row = test_key("key-1");
	uint8_t sealed[600 + SEAL_OVERHEAD];
	sqlite3_stmt *stmt;

	test_put_key(s, &row, secret);
	stmt = store_get_for(&s->turn, STORE_KEY_SECRET, "key-1");
	assert_int_equal(store_step(&s->turn, stmt), SQLITE_ROW);
	memcpy(sealed, sqlite3_column_blob(stmt, 0), sizeof(sealed));
	store_done(stmt);
	s->wal_pages = STORE_CHECKPOINT_PAGES;
	assert_int_equal(store_checkpoint(s), 0);
	assert_true(test_database_has_piece(p, sealed, sizeof(sealed)));

	row.state = KEY_DELETED;
	test_put_key(s, &row, NULL);
	s->wal_pages = STORE_CHECKPOINT_PAGES;
	assert_int_equal(store_checkpoint(s), 0);
	assert_false(test_database_has_piece(p, sealed, sizeof(sealed)));
}

static void test_a_rollback_takes_everything_back(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	struct key_row row = test_key("key-1"), found;
	struct lease_row lease = test_lease("lease-1");
	struct tally n = { 0 };

	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_put_key(s, &row, NULL), 0);
	assert_int_equal(store_put_lease(s, &lease), 0);
	assert_int_equal(store_key_by_hash(s, row.hash, &found), 0); /* the turn sees itself */
	store_rollback(s);
	store_rollback(s); /* nothing to take back: nothing happens */
	assert_int_equal(store_key_by_hash(s, row.hash, &found), -ENOENT);
	assert_int_equal(store_each_lease(s, test_tally_lease, &n), 0);
	assert_int_equal(n.n, 0);
}

static void test_pruning_keeps_what_lives_or_counts(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	struct key_row gone = test_key("key-1"), shared = test_key("key-2"),
		       live = test_key("key-3");
	struct lease_row ended = test_lease("lease-1"), late = test_lease("lease-2"),
			 active = test_lease("lease-3");
	struct tally keys = { 0 }, leases = { 0 };
	uint64_t generation;

	gone.state = shared.state = KEY_DELETED;
	gone.mode = live.mode = PROFILE_DEDICATED;
	gone.changed_at_ms = shared.changed_at_ms = live.changed_at_ms = 1000;
	ended.state = late.state = LEASE_RELEASED;
	ended.ended_at_ms = 1000;
	late.ended_at_ms = 5000;
	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_put_key(s, &gone, NULL), 0);
	assert_int_equal(store_put_key(s, &shared, NULL), 0);
	assert_int_equal(store_put_key(s, &live, NULL), 0);
	assert_int_equal(store_put_lease(s, &ended), 0);
	assert_int_equal(store_put_lease(s, &late), 0);
	assert_int_equal(store_put_lease(s, &active), 0);
	assert_int_equal(store_prune(s, 2000, 10), 0);
	assert_int_equal(store_commit(s), 0);
	assert_int_equal(store_each_key(s, true, test_tally_key, &keys), 0);
	assert_int_equal(keys.n, 2);
	assert_int_equal(store_last_generation(s, "service", &generation), 0);
	assert_int_equal(generation, 3);
	assert_int_equal(store_each_lease(s, test_tally_lease, &leases), 0);
	assert_int_equal(leases.n, 1);
}

static void test_an_impossible_row_is_an_error(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	struct key_row row = test_key("key-1"), found;

	test_put_key(s, &row, NULL);
	test_sql(p, "DROP TRIGGER key_fence_UPDATE; UPDATE key SET source = 'found in the street'");
	assert_int_equal(store_key_by_hash(s, row.hash, &found), -EBADMSG);
	test_sql(p, "UPDATE key SET source = 'minted', profile = hex(zeroblob(64))");
	assert_int_equal(store_key_by_hash(s, row.hash, &found), -EBADMSG);
	test_sql(p, "UPDATE key SET profile = 'service'");
	assert_int_equal(store_key_by_hash(s, row.hash, &found), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_every_value_of_a_key_comes_back),
		STORE_TEST(test_every_value_of_a_lease_comes_back),
		STORE_TEST(test_a_state_with_leases_opens_again),
		STORE_TEST(test_a_lease_is_active_or_has_an_end),
		STORE_TEST(test_only_active_leases_are_visited),
		STORE_TEST(test_deleted_keys_are_visited_on_request),
		STORE_TEST(test_a_hash_finds_the_row_that_still_counts),
		STORE_TEST(test_generations_count_deleted_keys_too),
		STORE_TEST(test_a_secret_comes_back_until_its_key_is_deleted),
		STORE_TEST(test_the_longest_secret_fits),
		STORE_TEST(test_no_file_holds_a_secret_in_clear),
		STORE_TEST(test_a_sealed_secret_moved_to_another_key_does_not_open),
		STORE_TEST(test_a_deleted_keys_secret_leaves_the_database),
		STORE_TEST(test_a_rollback_takes_everything_back),
		STORE_TEST(test_pruning_keeps_what_lives_or_counts),
		STORE_TEST(test_an_impossible_row_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
