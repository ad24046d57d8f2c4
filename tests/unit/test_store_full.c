/*
 * No room, and no right to write: nothing is written, the outcome says why, and service resumes by
 * itself. A real file system that is full needs a mount namespace of one's own; the limit on file
 * sizes stands in for it without.
 */
#include "test_store.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "io/store_internal.h"

#define TEST_FS_SIZE "size=12m"

static int test_set_limit(rlim_t size)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_FSIZE, &limit) < 0)
		return -1;
	limit.rlim_cur = size;
	return setrlimit(RLIMIT_FSIZE, &limit);
}

static int test_rows_until_full(struct store *s, int n)
{
	int r = 0;

	for (int i = 0; i < 40000 / n && r == 0; i++)
		r = test_audit_turn(s, n);
	return r;
}

/* What holds after a commit that found no room. */
static int test_after_full(struct store *s)
{
	uint64_t sequence, n = 0;
	uint8_t hash[HASH_SIZE];

	CHECK(store_is_short(s));
	store_audit_head(s, &sequence, hash);
	CHECK(sequence > 0 && sequence % 20 == 0);
	CHECK(store_each_audit(s, 0, 1000000, test_count, &n) == 0);
	CHECK(n == sequence);
	return 0;
}

static int test_beyond_the_limit(const struct place *p)
{
	struct store *s = NULL;
	off_t size;
	int line;

	(void)signal(SIGXFSZ, SIG_IGN); /* as the daemon does */
	CHECK(store_open(&s, p->dir, DURABILITY_POWER_LOSS, p->keyring) == 0);
	CHECK(test_claim(s, "holder-a") == 0);
	CHECK(test_audit_turn(s, 20) == 0);
	size = test_file_size(p->file, "-wal");
	CHECK(test_set_limit((rlim_t)size + 5000) == 0); /* in the middle of a page */
	CHECK(test_rows_until_full(s, 20) == STORE_E_FULL);
	line = test_after_full(s);
	CHECK(line == 0);
	CHECK(test_set_limit(RLIM_INFINITY) == 0);
	CHECK(test_audit_turn(s, 20) == 0);
	CHECK(store_checkpoint(s) == 0);
	CHECK(!store_is_short(s));
	store_free(s);
	s = NULL;
	CHECK(store_open(&s, p->dir, DURABILITY_POWER_LOSS, p->keyring) == 0);
	store_free(s);
	return 0;
}

static void test_a_write_beyond_the_limit_commits_nothing(void **state)
{
	const struct place *p = *state;

	assert_int_equal(test_in_child(test_beyond_the_limit, p), 0);
}

static bool test_write_proc(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	(void)close(fd);
	return written;
}

/* A mount namespace: root has it for the asking, others within a user namespace if at all. */
static bool test_unshare(void)
{
	char uid_map[64], gid_map[64];

	(void)snprintf(uid_map, sizeof(uid_map), "%u %u 1", geteuid(), geteuid());
	(void)snprintf(gid_map, sizeof(gid_map), "%u %u 1", getegid(), getegid());
	if (geteuid() == 0)
		return unshare(CLONE_NEWNS) == 0;
	return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 &&
	       test_write_proc("/proc/self/setgroups", "deny") &&
	       test_write_proc("/proc/self/gid_map", gid_map) &&
	       test_write_proc("/proc/self/uid_map", uid_map);
}

/* A small file system of our own at p->root; TEST_SKIPPED where that can't be had. */
static int test_mount(const struct place *p)
{
	if (!test_unshare() || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", p->root, "tmpfs", 0, TEST_FS_SIZE) < 0)
		return TEST_SKIPPED;
	return 0;
}

/* Others take what room there is. */
static bool test_ballast(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	char block[4096] = { 0 };
	bool full;

	while (write(fd, block, sizeof(block)) == sizeof(block))
		;
	full = errno == ENOSPC;
	(void)close(fd);
	return full;
}

static int test_on_a_full_disk(const struct place *p)
{
	struct store *s = NULL;
	char reserve[192], ballast[192];
	int line;

	if (test_mount(p) != 0)
		return TEST_SKIPPED;
	(void)snprintf(reserve, sizeof(reserve), "%s/reserve", p->dir);
	(void)snprintf(ballast, sizeof(ballast), "%s/ballast", p->root);
	CHECK(store_open(&s, p->dir, DURABILITY_POWER_LOSS, p->keyring) == 0);
	CHECK(test_claim(s, "holder-a") == 0);
	CHECK(test_file_size(reserve, "") == 4 << 20);
	CHECK(!store_is_short(s));
	CHECK(test_audit_turn(s, 20) == 0);
	CHECK(test_ballast(ballast));
	CHECK(test_rows_until_full(s, 20) == STORE_E_FULL);
	line = test_after_full(s);
	CHECK(line == 0);
	/* the reserve is gone, so there is room for what gives something back */
	CHECK(test_file_size(reserve, "") == -1);
	CHECK(test_audit_turn(s, 20) == 0);
	CHECK(test_ballast(ballast));
	CHECK(store_checkpoint(s) == STORE_E_FULL);
	CHECK(store_is_short(s));
	CHECK(unlink(ballast) == 0);
	CHECK(store_checkpoint(s) == 0);
	CHECK(!store_is_short(s));
	CHECK(test_audit_turn(s, 20) == 0);
	store_free(s);
	return 0;
}

static void test_on_small_disk(int (*test)(const struct place *p), const struct place *p)
{
	int line = test_in_child(test, p);

	if (line == TEST_SKIPPED) {
		print_message("skipped: a small file system needs a mount namespace\n");
		skip();
	}
	assert_int_equal(line, 0);
}

static void test_a_full_disk_commits_nothing_and_gives_up_the_reserve(void **state)
{
	test_on_small_disk(test_on_a_full_disk, *state);
}

/* Who takes over while the disk is full leaves to revocations what room there is, too. */
static int test_claim_on_a_full_disk(const struct place *p)
{
	struct store *s = NULL, *next = NULL;
	char reserve[192], ballast[192];

	if (test_mount(p) != 0)
		return TEST_SKIPPED;
	(void)snprintf(reserve, sizeof(reserve), "%s/reserve", p->dir);
	(void)snprintf(ballast, sizeof(ballast), "%s/ballast", p->root);
	CHECK(store_open(&s, p->dir, DURABILITY_POWER_LOSS, p->keyring) == 0);
	CHECK(test_claim(s, "holder-a") == 0);
	CHECK(store_open(&next, p->dir, DURABILITY_POWER_LOSS, p->keyring) == 0);
	CHECK(test_ballast(ballast));
	CHECK(test_rows_until_full(s, 20) == STORE_E_FULL);
	CHECK(test_claim(next, "holder-b") == 0);
	CHECK(test_file_size(reserve, "") == -1 && store_is_short(next));
	CHECK(test_audit_turn(next, 20) == 0);
	CHECK(unlink(ballast) == 0);
	CHECK(store_checkpoint(next) == 0);
	CHECK(test_file_size(reserve, "") == 4 << 20 && !store_is_short(next));
	store_free(next);
	store_free(s);
	return 0;
}

static void test_the_next_leader_is_short_too(void **state)
{
	test_on_small_disk(test_claim_on_a_full_disk, *state);
}

/* Much log of a small database: its room is the store's own to give back, and nobody else writes
 * while it is short. */
static int test_full_of_the_log(const struct place *p)
{
	struct store *s = NULL;
	char reserve[192];

	if (test_mount(p) != 0)
		return TEST_SKIPPED;
	(void)snprintf(reserve, sizeof(reserve), "%s/reserve", p->dir);
	CHECK(store_open(&s, p->dir, DURABILITY_POWER_LOSS, p->keyring) == 0);
	CHECK(test_claim(s, "holder-a") == 0);
	CHECK(test_rows_until_full(s, 1) == STORE_E_FULL);
	CHECK(store_is_short(s));
	CHECK(test_file_size(p->file, "-wal") > 7 << 20);
	CHECK(store_checkpoint(s) == 0);
	CHECK(!store_is_short(s));
	CHECK(test_file_size(p->file, "-wal") < 1 << 16);
	CHECK(test_file_size(reserve, "") == 4 << 20);
	CHECK(test_audit_turn(s, 20) == 0);
	store_free(s);
	return 0;
}

static void test_the_log_itself_does_not_keep_the_disk_full(void **state)
{
	test_on_small_disk(test_full_of_the_log, *state);
}

static int test_on_a_read_only_disk(const struct place *p)
{
	struct store *s = NULL;
	struct leader self = test_self("holder-b"), current;
	int r;

	if (test_mount(p) != 0)
		return TEST_SKIPPED;
	CHECK(store_open(&s, p->dir, DURABILITY_POWER_LOSS, p->keyring) == 0);
	CHECK(test_claim(s, "holder-a") == 0);
	CHECK(test_audit_turn(s, 1) == 0);
	store_free(s);
	s = NULL;
	CHECK(mount(NULL, p->root, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0);
	r = store_open(&s, p->dir, DURABILITY_POWER_LOSS, p->keyring);
	if (r == 0)
		r = store_claim(s, &self, test_dead, NULL, &current);
	CHECK(r == STORE_E_READONLY);
	store_free(s);
	return 0;
}

static void test_a_read_only_disk_is_said_to_be_one(void **state)
{
	const struct place *p = *state;
	int line = test_in_child(test_on_a_read_only_disk, p);

	if (line == TEST_SKIPPED) {
		print_message("skipped: a read-only file system needs a mount namespace\n");
		skip();
	}
	assert_int_equal(line, 0);
}

/* --- a file system that turns read-only under open files --- */

static bool test_refuses_writes, test_refuses_syncs;

static ssize_t test_pwrite(int fd, const void *data, size_t n, off_t at)
{
	errno = EROFS;
	return test_refuses_writes ? -1 : syscall(SYS_pwrite64, fd, data, n, at);
}

/* Also SQLite's, since the program's own comes first. */
int fdatasync(int fd)
{
	errno = EROFS;
	return test_refuses_syncs ? -1 : (int)syscall(SYS_fdatasync, fd);
}

static void test_write_by_us(void)
{
	sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);

	(void)vfs->xSetSystemCall(vfs, "pwrite", (sqlite3_syscall_ptr)test_pwrite);
	(void)vfs->xSetSystemCall(vfs, "pwrite64", (sqlite3_syscall_ptr)test_pwrite);
}

static int test_read_only_meanwhile(const struct place *p)
{
	struct leader self = test_self("holder-b"), current;
	struct store *s = NULL, *standby = NULL;
	uint64_t n = 0;

	CHECK(store_open(&s, p->dir, DURABILITY_POWER_LOSS, p->keyring) == 0);
	CHECK(test_claim(s, "holder-a") == 0);
	CHECK(store_open(&standby, p->dir, DURABILITY_POWER_LOSS, p->keyring) == 0);
	CHECK(test_audit_turn(s, 2) == 0);
	test_write_by_us();
	test_refuses_writes = true;
	CHECK(test_audit_turn(s, 1) == STORE_E_READONLY);
	CHECK(store_claim(standby, &self, test_dead, NULL, &current) == STORE_E_READONLY);
	CHECK(store_touch(s) == STORE_E_READONLY);
	CHECK(!store_is_short(s)); /* there is room, and nothing to be won by giving some up */
	test_refuses_writes = false;
	CHECK(test_audit_turn(s, 1) == 0);
	CHECK(store_each_audit(s, 0, 100, test_count, &n) == 0 && n == 3);
	/* what a sync leaves on the disk nobody knows, whatever it fails with */
	test_refuses_syncs = true;
	CHECK(test_audit_turn(s, 1) == -EIO);
	store_free(standby);
	store_free(s);
	return 0;
}

static void test_a_disk_that_turns_read_only_commits_nothing(void **state)
{
	const struct place *p = *state;

	assert_int_equal(test_in_child(test_read_only_meanwhile, p), 0);
}

/* Another process holds the lock for longer than we wait. */
static void test_a_held_lock_is_busy_within_a_bound(void **state)
{
	const struct place *p = *state;
	_cleanup_(store_freep) struct store *s = test_open_leading(p);
	struct leader self = test_self("holder-b"), current;
	sqlite3 *db;

	assert_int_equal(sqlite3_open(p->file, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(store_begin(s), STORE_E_BUSY);
	assert_int_equal(store_claim(s, &self, test_dead, NULL, &current), STORE_E_BUSY);
	assert_int_equal(store_vacate(s), STORE_E_BUSY);
	assert_int_equal(store_check_term(s), 0); /* reading goes on */
	assert_int_equal(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(test_audit_turn(s, 1), 0);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_a_write_beyond_the_limit_commits_nothing),
		STORE_TEST(test_a_full_disk_commits_nothing_and_gives_up_the_reserve),
		STORE_TEST(test_the_next_leader_is_short_too),
		STORE_TEST(test_the_log_itself_does_not_keep_the_disk_full),
		STORE_TEST(test_a_read_only_disk_is_said_to_be_one),
		STORE_TEST(test_a_disk_that_turns_read_only_commits_nothing),
		STORE_TEST(test_a_held_lock_is_busy_within_a_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
