/*
 * What a commit costs: an acquire's rows (lease and audit), 1, 16 or 64 to a turn, beside two plain
 * inserts of as many bytes, and a plain write and fdatasync of what the log grows by. Then what a
 * start costs with 10^6 audit rows, and what the open store keeps in memory. Prints figures, judges
 * none. usage: bench_store [DIRECTORY]
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/crypt.h"
#include "base/macros.h"
#include "base/secret.h"
#include "io/store.h"
#include "io/store_rows.h"

#define BENCH_NSEC 1000000000LL /* per figure */
#define BENCH_AUDIT_ROWS 1000000
#define BENCH_STARTS 50

static void bench_die(const char *what, int r)
{
	(void)fprintf(stderr, "bench_store: %s: %d\n", what, r);
	exit(1);
}

static struct keyring *bench_keyring(void)
{
	_cleanup_(secret_freep) struct secret *seal_key = secret_new_empty(SEAL_KEY_SIZE);
	struct keyring *k = NULL;
	int r = crypt_init();

	if (r == 0 && seal_key)
		r = keyring_new(&k, seal_key);
	if (!k)
		bench_die("keyring", r);
	return k;
}

static bool bench_dead(const struct leader *row, void *userdata)
{
	(void)row;
	(void)userdata;
	return true;
}

static struct store *bench_open(const char *dir, enum durability durability,
				const struct keyring *keyring)
{
	struct leader self = { .pid = getpid(), .boot_id = "boot", .instance = "main" }, current;
	struct store *s = NULL;
	int r = store_open(&s, dir, durability, keyring);

	crypt_draw_id(self.holder);
	if (r == 0)
		r = store_claim(s, &self, bench_dead, NULL, &current);
	if (r != 0)
		bench_die("open", r);
	return s;
}

static int bench_acquire(struct store *s)
{
	struct lease_row lease = { .state = LEASE_ACTIVE,
				   .bind = LEASE_TTL,
				   .profile = "service",
				   .rule = "everyone",
				   .boot_id = "00112233-4455-6677-8899-aabbccddeeff",
				   .key_id = "0123456789abcdef" };
	static int64_t n;
	struct audit_row row;
	int r;

	crypt_draw_id(lease.id);
	lease.granted_at_ms = 1700000000000 + n++ / 64;
	lease.ends_at_ms = lease.granted_at_ms + 900000;
	audit_init(&row);
	row.wall_ms = lease.granted_at_ms;
	(void)snprintf(row.instance, sizeof(row.instance), "main");
	(void)snprintf(row.event, sizeof(row.event), "acquire");
	(void)snprintf(row.outcome, sizeof(row.outcome), "ok");
	(void)snprintf(row.rule, sizeof(row.rule), "everyone");
	(void)snprintf(row.profile, sizeof(row.profile), "service");
	(void)snprintf(row.lease, sizeof(row.lease), "%s", lease.id);
	(void)snprintf(row.unit, sizeof(row.unit), "agent.service");
	(void)snprintf(row.key_tag, sizeof(row.key_tag), "00112233445566778899aabbccddeeff");
	r = store_put_lease(s, &lease);
	return r != 0 ? r : store_append_audit(s, &row);
}

static void bench_turn(struct store *s, int batch)
{
	int r = store_begin(s);

	for (int i = 0; i < batch && r == 0; i++)
		r = bench_acquire(s);
	if (r == 0)
		r = store_commit(s);
	if (r != 0)
		bench_die("turn", r);
}

static off_t bench_size(const char *dir, const char *name)
{
	char path[512];
	struct stat st;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	return stat(path, &st) < 0 ? 0 : st.st_size;
}

/* The control: writes `n` bytes after each other and syncs each time; microseconds a time. */
static double bench_raw(const char *dir, size_t n, bool sync)
{
	_cleanup_(freep) char *data = calloc(1, n);
	char path[512];
	int64_t start, end;
	long times = 0;
	int fd;

	(void)snprintf(path, sizeof(path), "%s/raw", dir);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || !data)
		bench_die(path, -errno);
	start = end = clock_monotonic_nsec();
	/* over the same 4 MiB, as a log that begins anew */
	for (off_t at = 0; end - start < BENCH_NSEC; end = clock_monotonic_nsec(), times++) {
		if (pwrite(fd, data, n, at) != (ssize_t)n || (sync && fdatasync(fd) < 0))
			bench_die(path, -errno);
		at = (at + (off_t)n) % (4 << 20);
	}
	(void)close(fd);
	(void)unlink(path);
	return (double)(end - start) / 1e3 / (double)times;
}

static void bench_exec(sqlite3 *db, const char *sql)
{
	if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
		bench_die(sqlite3_errmsg(db), 0);
}

static void bench_insert(sqlite3 *db, sqlite3_stmt *stmt, size_t n)
{
	if (sqlite3_bind_zeroblob(stmt, 1, (int)n) != SQLITE_OK ||
	    sqlite3_step(stmt) != SQLITE_DONE || sqlite3_reset(stmt) != SQLITE_OK)
		bench_die(sqlite3_errmsg(db), 0);
}

static int bench_log_pages(void *userdata, sqlite3 *db, const char *name, int n_pages)
{
	(void)db;
	(void)name;
	*(int *)userdata = n_pages;
	return SQLITE_OK;
}

/* The floor: what SQLite itself takes for two rows of `n` bytes together; microseconds a commit. */
static double bench_floor(const char *dir, int batch, size_t n, bool sync)
{
	_cleanup_(freep) char *path = xasprintf("%s/floor.db", dir);
	sqlite3_stmt *insert = NULL;
	sqlite3 *db = NULL;
	int64_t start, end;
	long times = 0;
	int pages = 0;

	if (sqlite3_open(path, &db) != SQLITE_OK)
		bench_die(path, 0);
	bench_exec(db, "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;"
		       "CREATE TABLE row (id INTEGER PRIMARY KEY, value BLOB)");
	bench_exec(db, sync ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL");
	if (sqlite3_prepare_v2(db, "INSERT INTO row (value) VALUES (?)", -1, &insert, NULL) !=
	    SQLITE_OK)
		bench_die(sqlite3_errmsg(db), 0);
	(void)sqlite3_wal_hook(db, bench_log_pages, &pages);
	start = end = clock_monotonic_nsec();
	for (; end - start < BENCH_NSEC; end = clock_monotonic_nsec(), times++) {
		bench_exec(db, "BEGIN IMMEDIATE");
		for (int i = 0; i < 2 * batch; i++)
			bench_insert(db, insert, n / 2);
		bench_exec(db, "COMMIT");
		if (pages >= 256) /* as the store does */
			(void)sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL,
							NULL);
	}
	(void)sqlite3_finalize(insert);
	(void)sqlite3_close(db);
	return (double)(end - start) / 1e3 / (double)times;
}

static void bench_commits(const char *dir, enum durability durability, int batch,
			  const struct keyring *keyring)
{
	_cleanup_(store_freep) struct store *s = bench_open(dir, durability, keyring);
	const bool sync = durability == DURABILITY_POWER_LOSS;
	int64_t start, end;
	size_t n_log, n_rows;
	off_t before;
	double usec;
	long n = 0;

	bench_turn(s, batch);
	before = bench_size(dir, "state.db-wal");
	for (int i = 0; i < 10; i++)
		bench_turn(s, batch);
	n_log = (size_t)(bench_size(dir, "state.db-wal") - before) / 10;
	start = end = clock_monotonic_nsec();
	for (; end - start < BENCH_NSEC; end = clock_monotonic_nsec(), n++) {
		bench_turn(s, batch);
		if (store_checkpoint(s) != 0)
			bench_die("checkpoint", 0);
	}
	usec = (double)(end - start) / 1e3 / (double)n;
	n_rows = (size_t)(bench_size(dir, "state.db") / ((n + 11) * batch));
	(void)printf("%-10s %2d a turn: %7.1f us a commit, %7.0f acquires/s; bare inserts of its "
		     "%zu bytes each: %7.1f us; %s of its %6zu bytes: %6.1f us\n",
		     sync ? "power_loss" : "crash", batch, usec, 1e6 * batch / usec, n_rows,
		     bench_floor(dir, batch, n_rows, sync), sync ? "write + fdatasync" : "write",
		     n_log, bench_raw(dir, n_log, sync));
}

static long bench_private_dirty_kib(void)
{
	FILE *f = fopen("/proc/self/smaps_rollup", "re");
	char line[256];
	long kib = -1;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "Private_Dirty: %ld kB", &kib) == 1)
			break;
	if (f)
		(void)fclose(f);
	return kib;
}

static void bench_fill(const char *dir, const struct keyring *keyring)
{
	_cleanup_(store_freep) struct store *s = bench_open(dir, DURABILITY_CRASH, keyring);
	struct audit_row row;
	int r = 0;

	audit_init(&row);
	(void)snprintf(row.event, sizeof(row.event), "acquire");
	for (int n = 0; n < BENCH_AUDIT_ROWS / 10000 && r == 0; n++) {
		r = store_begin(s);
		for (int i = 0; i < 10000 && r == 0; i++)
			r = store_append_audit(s, &row);
		if (r == 0)
			r = store_commit(s);
		if (r == 0)
			r = store_checkpoint(s);
	}
	if (r != 0)
		bench_die("fill", r);
	(void)printf("%d audit rows: %.1f MiB\n", BENCH_AUDIT_ROWS,
		     (double)bench_size(dir, "state.db") / (1 << 20));
}

static void bench_start(const char *dir, const struct keyring *keyring)
{
	int64_t start = clock_monotonic_nsec();

	for (int i = 0; i < BENCH_STARTS; i++)
		store_free(bench_open(dir, DURABILITY_POWER_LOSS, keyring));
	(void)printf("open and claim: %.2f ms (mean of %d)\n",
		     (double)(clock_monotonic_nsec() - start) / 1e6 / BENCH_STARTS, BENCH_STARTS);
}

static void bench_memory(const char *dir, const struct keyring *keyring)
{
	long before = bench_private_dirty_kib();
	_cleanup_(store_freep) struct store *s = bench_open(dir, DURABILITY_POWER_LOSS, keyring);

	bench_turn(s, 1);
	if (store_checkpoint(s) != 0)
		bench_die("checkpoint", 0);
	(void)printf("Private_Dirty: %ld KiB before, %ld KiB with an open store\n", before,
		     bench_private_dirty_kib());
}

static int bench_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

int main(int argc, char **argv)
{
	static const int batches[] = { 1, 16, 64 };
	struct keyring *keyring = bench_keyring();
	char root[256], dir[300];

	(void)snprintf(root, sizeof(root), "%s/bench-store-XXXXXX", argc > 1 ? argv[1] : "/tmp");
	if (!mkdtemp(root))
		bench_die(root, -errno);
	(void)snprintf(dir, sizeof(dir), "%s/rows", root);
	bench_memory(dir, keyring);
	for (int d = DURABILITY_POWER_LOSS; d <= DURABILITY_CRASH; d++) {
		for (size_t i = 0; i < ARRAY_SIZE(batches); i++) {
			char fresh[320];

			(void)snprintf(fresh, sizeof(fresh), "%s/%d-%d", root, d, batches[i]);
			bench_commits(fresh, (enum durability)d, batches[i], keyring);
		}
	}
	bench_fill(dir, keyring);
	bench_start(dir, keyring);
	keyring_free(keyring);
	(void)nftw(root, bench_remove, 8, FTW_DEPTH | FTW_PHYS);
	return 0;
}
