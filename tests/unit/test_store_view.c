/* The view from beside the daemon: sees what is committed, leaves everything as it is, and is not
 * fooled by values that read as others. */
#include "test_store.h"

#include <sqlite3.h>

#include "io/store_audit_prune.h"
#include "io/store_view.h"

static struct store_view *test_view(const struct place *p)
{
	struct store_view *v = NULL;

	assert_int_equal(store_view_open(&v, p->dir), 0);
	return v;
}

static struct store_page *test_read(struct store_view *v, int64_t from, int64_t to)
{
	struct store_page *page = calloc(1, sizeof(*page));

	assert_non_null(page);
	assert_int_equal(store_view_read(v, from, to, page), 0);
	return page;
}

static void test_pages_of_a_living_state(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	_cleanup_(store_view_freep) struct store_view *v = NULL;
	struct store_page *page;
	char text[256];
	int64_t last;

	assert_int_equal(test_audit_turn(s, STORE_PAGE_ROWS + 5), 0);
	v = test_view(p);
	page = test_read(v, INT64_MIN, INT64_MAX);
	assert_int_equal(page->n, STORE_PAGE_ROWS);
	assert_int_equal(page->rows[0].sequence, 1);
	assert_string_equal(page->rows[0].detail, "a fresh key");
	assert_int_equal(page->checkpoint.sequence, 0);
	free(page);
	page = test_read(v, STORE_PAGE_ROWS + 1, STORE_PAGE_ROWS + 3);
	assert_int_equal(page->n, 3);
	assert_int_equal(page->rows[2].sequence, STORE_PAGE_ROWS + 3);
	free(page);
	/* no transaction is left open: the next look sees what came since */
	assert_int_equal(test_audit_turn(s, 1), 0);
	assert_int_equal(store_view_last(v, &last), 0);
	assert_int_equal(last, STORE_PAGE_ROWS + 6);
	page = test_read(v, last, last);
	assert_int_equal(page->n, 1);
	free(page);
	assert_int_equal(store_view_check(v, text), 0);
	assert_string_equal(text, "ok");
}

static void test_a_checkpoint_comes_with_its_rows(void **state)
{
	const struct store_audit_prune what = { INT64_MAX, 3, 100 };
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	_cleanup_(store_view_freep) struct store_view *v = test_view(p);
	struct audit_checkpoint c;
	struct store_page *page;
	size_t n;

	assert_int_equal(test_audit_turn(s, 5), 0);
	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_audit_prune(s, &what, &c, &n), 0);
	assert_int_equal(store_commit(s), 0);
	page = test_read(v, 1, 100);
	assert_int_equal(page->n, 2);
	assert_memory_equal(&page->checkpoint, &c, sizeof(c));
	assert_true(checkpoint_is_genuine(p->keyring, store_install(s), &page->checkpoint));
	free(page);
}

static void test_whose_state_it_is(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	_cleanup_(store_view_freep) struct store_view *v = test_view(p);
	char fingerprint[33], stored[33], install[STORE_INSTALL_SIZE];

	keyring_fingerprint(p->keyring, fingerprint);
	assert_int_equal(store_view_identity(v, stored, install), 0);
	assert_string_equal(stored, fingerprint);
	assert_string_equal(install, store_install(s));
}

static void test_no_state_is_made(void **state)
{
	const struct place *p = *state;
	struct store_view *v = NULL;
	struct stat st;

	assert_int_equal(store_view_open(&v, p->dir), -ENOENT);
	assert_int_equal(stat(p->dir, &st), -1);
	store_free(test_open(p));
	assert_int_equal(unlink(p->file), 0);
	assert_int_equal(store_view_open(&v, p->dir), -ENOENT);
	assert_int_equal(stat(p->file, &st), -1);
	assert_null(v);
}

static void test_meddle(const struct place *p, const char *sql)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(p->file, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL),
			 SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void test_a_newer_state_is_refused(void **state)
{
	const struct place *p = *state;
	struct store_view *v = NULL;

	store_free(test_open_leading(p));
	test_meddle(p, "UPDATE meta SET value = '999' WHERE name = 'schema'");
	assert_int_equal(store_view_open(&v, p->dir), STORE_E_NEWER);
}

static void test_a_state_of_version_1_has_no_checkpoint(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	_cleanup_(store_view_freep) struct store_view *v = NULL;
	struct store_page *page;

	assert_int_equal(test_audit_turn(s, 2), 0);
	test_meddle(p, "DROP TABLE audit_checkpoint;"
		       "UPDATE meta SET value = '1' WHERE name = 'schema'");
	v = test_view(p);
	page = test_read(v, 1, 100);
	assert_int_equal(page->n, 2);
	free(page);
}

/* Each of these reads as the value that was there before, or as none. */
static void test_values_that_no_row_has(void **state)
{
	static const char *const edits[] = {
		"detail = detail || char(0) || 'and more'",
		"detail = CAST(x'00' AS TEXT)",
		"detail = printf('%600s', 'x')",
		"hash = x'00'",
		"hash = zeroblob(33)",
	};
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	_cleanup_(store_view_freep) struct store_view *v = NULL;
	struct store_page *page;
	char sql[256];

	assert_int_equal(test_audit_turn(s, 3), 0);
	test_meddle(p, "DROP TRIGGER audit_no_UPDATE; CREATE TABLE saved AS SELECT * FROM audit");
	v = test_view(p);
	for (size_t i = 0; i < ARRAY_SIZE(edits); i++) {
		(void)snprintf(sql, sizeof(sql), "UPDATE audit SET %s WHERE sequence = 2",
			       edits[i]);
		test_meddle(p, sql);
		page = test_read(v, 1, 100);
		assert_true(page->is_broken);
		assert_int_equal(page->broken, 2);
		assert_int_equal(page->n, 1);
		free(page);
		test_meddle(p, "UPDATE audit SET (detail, hash) = (SELECT detail, hash FROM saved"
			       " WHERE saved.sequence = audit.sequence) WHERE sequence = 2");
	}
	page = test_read(v, 1, 100);
	assert_false(page->is_broken);
	free(page);
	store_view_free(TAKE(v));
	/* a table without STRICT holds fractions where there should be integers */
	test_meddle(p, "CREATE TABLE other AS SELECT * FROM audit; DROP TABLE audit;"
		       "ALTER TABLE other RENAME TO audit;"
		       "UPDATE audit SET uid = 1000.5 WHERE sequence = 3");
	v = test_view(p);
	page = test_read(v, 1, 100);
	assert_true(page->is_broken);
	assert_int_equal(page->broken, 3);
	free(page);
}

static void test_nothing_is_written(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	struct store_view *v;
	char *before, *after;
	size_t n_before, n_after;
	off_t wal;

	assert_int_equal(test_audit_turn(s, 2000), 0); /* a checkpoint would have much to move */
	store_free(TAKE(s));
	wal = test_file_size(p->file, "-wal");
	assert_true(wal > 400000);
	before = test_read_file(p->file, &n_before);
	v = test_view(p); /* the only one, and so the last to close it */
	free(test_read(v, 1, 100));
	store_view_free(v);
	after = test_read_file(p->file, &n_after);
	assert_int_equal(n_before, n_after);
	assert_memory_equal(before, after, n_before);
	assert_int_equal(test_file_size(p->file, "-wal"), wal);
	free(before);
	free(after);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_pages_of_a_living_state),
		STORE_TEST(test_a_checkpoint_comes_with_its_rows),
		STORE_TEST(test_whose_state_it_is),
		STORE_TEST(test_no_state_is_made),
		STORE_TEST(test_a_newer_state_is_refused),
		STORE_TEST(test_a_state_of_version_1_has_no_checkpoint),
		STORE_TEST(test_values_that_no_row_has),
		STORE_TEST(test_nothing_is_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
