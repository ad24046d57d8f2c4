/* Opening a state: what is made, what is refused, and that refusing touches nothing. */
#include "test_store.h"

#include <linux/magic.h>

#include "io/store_internal.h"

static unsigned test_mode(const char *path)
{
	struct stat st;

	assert_int_equal(lstat(path, &st), 0);
	return st.st_mode & 07777;
}

static int test_try_open(const struct place *p)
{
	struct store *s = NULL;
	int r = store_open(&s, p->dir, DURABILITY_CRASH, p->keyring);

	assert_true((r == 0) == (s != NULL));
	store_free(s);
	return r;
}

static void test_a_fresh_state_is_private(void **state)
{
	const struct place *p = *state;
	char path[192];
	mode_t mask = umask(0);
	struct store *s = test_open_leading(p);

	(void)umask(mask);
	assert_int_equal(test_mode(p->dir), 0700);
	(void)snprintf(path, sizeof(path), "%s/a", p->root);
	assert_int_equal(test_mode(path), 0700);
	assert_int_equal(test_mode(p->file), 0600);
	(void)snprintf(path, sizeof(path), "%s-wal", p->file);
	assert_int_equal(test_mode(path), 0600);
	(void)snprintf(path, sizeof(path), "%s-shm", p->file);
	assert_int_equal(test_mode(path), 0600);
	store_free(s);
}

static void test_what_was_committed_is_there_again(void **state)
{
	const struct place *p = *state;
	struct store *s = test_open_leading(p);
	uint8_t before[HASH_SIZE], after[HASH_SIZE];
	char install[STORE_INSTALL_SIZE];
	uint64_t sequence;

	assert_int_equal(test_audit_turn(s, 2), 0);
	store_audit_head(s, &sequence, before);
	(void)snprintf(install, sizeof(install), "%s", store_install(s));
	assert_int_equal(strlen(install), STORE_INSTALL_SIZE - 1);
	store_free(s);

	s = test_open(p);
	store_audit_head(s, &sequence, after);
	assert_int_equal(sequence, 2);
	assert_memory_equal(before, after, HASH_SIZE);
	assert_string_equal(store_install(s), install);
	store_free(s);
}

static void test_other_modes_are_refused(void **state)
{
	const struct place *p = *state;

	store_free(test_open(p));
	assert_int_equal(chmod(p->dir, 0755), 0);
	assert_int_equal(test_try_open(p), STORE_E_ACCESS);
	assert_int_equal(chmod(p->dir, 0700), 0);
	assert_int_equal(chmod(p->file, 0644), 0);
	assert_int_equal(test_try_open(p), STORE_E_ACCESS);
	assert_int_equal(chmod(p->file, 0600), 0);
	assert_int_equal(test_try_open(p), 0);
}

static void test_other_owners_are_refused(void **state)
{
	const struct place *p = *state;

	if (geteuid() != 0) {
		print_message("skipped: a foreign owner needs root\n");
		skip();
	}
	store_free(test_open(p));
	assert_int_equal(chown(p->file, 65534, (gid_t)-1), 0);
	assert_int_equal(test_try_open(p), STORE_E_ACCESS);
	assert_int_equal(chown(p->file, 0, (gid_t)-1), 0);
	assert_int_equal(chown(p->dir, 65534, (gid_t)-1), 0);
	assert_int_equal(test_try_open(p), STORE_E_ACCESS);
}

static void test_links_are_not_followed_to_the_file(void **state)
{
	struct place *p = *state;
	char elsewhere[128];

	store_free(test_open(p));
	(void)snprintf(elsewhere, sizeof(elsewhere), "%s/elsewhere", p->root);
	assert_int_equal(rename(p->file, elsewhere), 0);
	assert_int_equal(symlink(elsewhere, p->file), 0);
	assert_int_equal(test_try_open(p), STORE_E_ACCESS);
}

static void test_a_link_to_the_directory_names_the_same_state(void **state)
{
	struct place *p = *state;
	char install[STORE_INSTALL_SIZE], real[128];
	struct store *s = test_open_leading(p);

	(void)snprintf(install, sizeof(install), "%s", store_install(s));
	store_free(s);
	(void)snprintf(real, sizeof(real), "%s", p->dir);
	(void)snprintf(p->dir, sizeof(p->dir), "%s/link", p->root);
	assert_int_equal(symlink(real, p->dir), 0);
	s = test_open_leading(p);
	assert_string_equal(store_install(s), install);
	store_free(s);
}

static void test_a_file_in_place_of_the_directory_is_refused(void **state)
{
	struct place *p = *state;
	int fd;

	(void)snprintf(p->dir, sizeof(p->dir), "%s/file", p->root);
	fd = open(p->dir, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	(void)close(fd);
	assert_int_equal(test_try_open(p), STORE_E_ACCESS);
	(void)snprintf(p->dir, sizeof(p->dir), "%s/file/below", p->root);
	assert_int_equal(test_try_open(p), STORE_E_ACCESS);
}

static void test_network_file_systems_are_known(void **state)
{
	(void)state;
	assert_string_equal(store_network_fs(NFS_SUPER_MAGIC), "NFS");
	assert_string_equal(store_network_fs((long)(int)CIFS_SUPER_MAGIC), "CIFS");
	assert_string_equal(store_network_fs((long)SMB2_SUPER_MAGIC), "SMB2");
	assert_string_equal(store_network_fs(V9FS_MAGIC), "9p");
	assert_null(store_network_fs(EXT4_SUPER_MAGIC));
	assert_null(store_network_fs(TMPFS_MAGIC));
	assert_null(store_network_fs(FUSE_SUPER_MAGIC));
}

/* Runs SQL on the file behind the store's back, and moves it all into the database. */
static void test_meddle(const struct place *p, const char *sql)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(p->file, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* Opening fails with `expected`, and leaves every byte as it was. */
static void test_refused_untouched(const struct place *p, int expected)
{
	size_t n_before, n_after;
	char *before = test_read_file(p->file, &n_before), *after;

	assert_int_equal(test_try_open(p), expected);
	after = test_read_file(p->file, &n_after);
	assert_int_equal(n_before, n_after);
	assert_memory_equal(before, after, n_before);
	assert_true(test_file_size(p->file, "-wal") <= 0);
	free(before);
	free(after);
}

static void test_a_newer_schema_is_refused_untouched(void **state)
{
	const struct place *p = *state;

	store_free(test_open_leading(p));
	test_meddle(p, "UPDATE meta SET value = '999' WHERE name = 'schema'");
	test_refused_untouched(p, STORE_E_NEWER);
}

static void test_another_seal_key_is_refused_untouched(void **state)
{
	struct place *p = *state;

	store_free(test_open_leading(p));
	test_meddle(p, "SELECT count(*) FROM meta");
	keyring_free(p->keyring);
	p->keyring = test_keyring(8);
	test_refused_untouched(p, STORE_E_SEAL);
}

static void test_another_programs_database_is_refused_untouched(void **state)
{
	const struct place *p = *state;

	store_free(test_open(p));
	assert_int_equal(unlink(p->file), 0);
	test_meddle(p, "CREATE TABLE meta (name, value); CREATE TABLE things (x)");
	assert_int_equal(chmod(p->file, 0600), 0);
	test_refused_untouched(p, STORE_E_CORRUPT);
}

static void test_a_file_that_is_no_database_is_refused_untouched(void **state)
{
	const struct place *p = *state;
	FILE *f;

	store_free(test_open(p));
	test_meddle(p, "SELECT count(*) FROM meta");
	f = fopen(p->file, "r+");
	assert_non_null(f);
	for (int i = 0; i < 200; i++)
		assert_true(fputs("not a database at all ", f) >= 0);
	assert_int_equal(fclose(f), 0);
	test_refused_untouched(p, STORE_E_CORRUPT);
}

/* The root page of `table`, from 1. */
static long test_root_page(const struct place *p, const char *table)
{
	sqlite3_stmt *stmt;
	sqlite3 *db;
	long page;

	assert_int_equal(sqlite3_open(p->file, &db), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(db, "SELECT rootpage FROM sqlite_schema WHERE name = ?",
					    -1, &stmt, NULL),
			 SQLITE_OK);
	assert_int_equal(sqlite3_bind_text(stmt, 1, table, -1, SQLITE_STATIC), SQLITE_OK);
	assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
	page = (long)sqlite3_column_int64(stmt, 0);
	(void)sqlite3_finalize(stmt);
	(void)sqlite3_close(db);
	return page;
}

static void test_a_damaged_small_table_is_refused(void **state)
{
	const struct place *p = *state;
	struct store *s = test_open_leading(p);
	struct lease_row lease = test_lease("lease-1");
	long page;
	FILE *f;

	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_put_lease(s, &lease), 0);
	assert_int_equal(store_commit(s), 0);
	store_free(s);
	page = test_root_page(p, "lease"); /* its closing moves the log into the database */
	f = fopen(p->file, "r+");
	assert_non_null(f);
	assert_int_equal(fseek(f, (page - 1) * 4096 + 5, SEEK_SET), 0);
	assert_int_equal(fwrite("\xff\xff\xff", 1, 3, f), 3);
	assert_int_equal(fclose(f), 0);
	test_refused_untouched(p, STORE_E_CORRUPT);
}

static void test_a_copied_state_becomes_another_install(void **state)
{
	struct place *p = *state;
	char copy[128], install[STORE_INSTALL_SIZE];
	struct store *s = test_open_leading(p);

	(void)snprintf(install, sizeof(install), "%s", store_install(s));
	store_free(s);
	(void)snprintf(copy, sizeof(copy), "%s/copy", p->root);
	assert_int_equal(rename(p->dir, copy), 0);
	(void)snprintf(p->dir, sizeof(p->dir), "%s", copy);
	s = test_open_leading(p);
	assert_string_not_equal(store_install(s), install);
	(void)snprintf(install, sizeof(install), "%s", store_install(s));
	store_free(s);

	s = test_open(p);
	assert_string_equal(store_install(s), install);
	store_free(s);
}

/* Waits for the end of `gate`, and opens with all the others. */
static int test_open_once(const struct place *p, int gate)
{
	struct store *s = NULL;
	char byte;

	CHECK(read(gate, &byte, 1) == 0);
	CHECK(store_open(&s, p->dir, DURABILITY_POWER_LOSS, p->keyring) == 0);
	CHECK(strlen(store_install(s)) == STORE_INSTALL_SIZE - 1);
	store_free(s);
	return 0;
}

static void test_ten_processes_make_one_state(void **state)
{
	const struct place *p = *state;
	int gate[2], status;
	pid_t pids[10];

	assert_int_equal(pipe2(gate, O_CLOEXEC), 0);
	for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (pids[i] == 0) {
			(void)close(gate[1]);
			_exit(test_open_once(p, gate[0]) == 0 ? 0 : 1);
		}
	}
	(void)close(gate[0]);
	(void)close(gate[1]);
	for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	store_free(test_open_leading(p));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_a_fresh_state_is_private),
		STORE_TEST(test_what_was_committed_is_there_again),
		STORE_TEST(test_other_modes_are_refused),
		STORE_TEST(test_other_owners_are_refused),
		STORE_TEST(test_links_are_not_followed_to_the_file),
		STORE_TEST(test_a_link_to_the_directory_names_the_same_state),
		STORE_TEST(test_a_file_in_place_of_the_directory_is_refused),
		STORE_TEST(test_network_file_systems_are_known),
		STORE_TEST(test_a_newer_schema_is_refused_untouched),
		STORE_TEST(test_another_seal_key_is_refused_untouched),
		STORE_TEST(test_another_programs_database_is_refused_untouched),
		STORE_TEST(test_a_file_that_is_no_database_is_refused_untouched),
		STORE_TEST(test_a_damaged_small_table_is_refused),
		STORE_TEST(test_a_copied_state_becomes_another_install),
		STORE_TEST(test_ten_processes_make_one_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
