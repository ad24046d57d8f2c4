/*
 * What the tests of the store share: a state directory of their own, a keyring, filled-in rows, and
 * children that report the line of a failed check.
 */
#pragma once

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/crypt.h"
#include "base/secret.h"
#include "io/store.h"
#include "io/store_rows.h"

/* Takes away what version 3 of the schema has added. */
#define TEST_WITHOUT_VERSION_3                        \
	"ALTER TABLE key DROP COLUMN dead;"           \
	"ALTER TABLE key DROP COLUMN settings;"       \
	"ALTER TABLE key DROP COLUMN at_once;"        \
	"ALTER TABLE lease DROP COLUMN ends_boot_ms;" \
	"ALTER TABLE lease DROP COLUMN pidns;"        \
	"ALTER TABLE lease DROP COLUMN listen;"

/* In a child, where a cmocka assertion would run on: yields the line. */
#define CHECK(condition)                 \
	do {                             \
		if (!(condition))        \
			return __LINE__; \
	} while (0)

struct place {
	char root[64];	/* removed with all in it */
	char dir[128];	/* the state directory, not there yet */
	char file[160]; /* the database in it */
	struct keyring *keyring;
};

static inline struct keyring *test_keyring(uint8_t fill)
{
	_cleanup_(secret_freep) struct secret *seal_key = NULL;
	uint8_t bytes[SEAL_KEY_SIZE];
	struct keyring *k = NULL;

	memset(bytes, fill, sizeof(bytes));
	seal_key = secret_new(bytes, sizeof(bytes));
	assert_non_null(seal_key);
	assert_int_equal(keyring_new(&k, seal_key), 0);
	return k;
}

static inline int test_place_setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	assert_int_equal(crypt_init(), 0);
	(void)snprintf(p->root, sizeof(p->root), "/tmp/keybroker-store-XXXXXX");
	assert_non_null(mkdtemp(p->root));
	(void)snprintf(p->dir, sizeof(p->dir), "%s/a/state", p->root);
	(void)snprintf(p->file, sizeof(p->file), "%s/state.db", p->dir);
	p->keyring = test_keyring(7);
	*state = p;
	return 0;
}

static inline int test_place_remove(const char *path, const struct stat *st, int type,
				    struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline int test_place_teardown(void **state)
{
	struct place *p = *state;

	(void)nftw(p->root, test_place_remove, 8, FTW_DEPTH | FTW_PHYS);
	keyring_free(p->keyring);
	free(p);
	return 0;
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, test_place_setup, test_place_teardown)

static inline struct store *test_open(const struct place *p)
{
	struct store *s = NULL;

	assert_int_equal(store_open(&s, p->dir, DURABILITY_CRASH, p->keyring), 0);
	return s;
}

static inline bool test_dead(const struct leader *row, void *userdata)
{
	(void)row;
	(void)userdata;
	return true;
}

static inline bool test_alive(const struct leader *row, void *userdata)
{
	(void)row;
	(void)userdata;
	return false;
}

static inline struct leader test_self(const char *holder)
{
	struct leader self = { .pid = getpid(), .start_time = 99, .pidns = 4026531836 };

	(void)snprintf(self.boot_id, sizeof(self.boot_id), "%s", "this-boot");
	(void)snprintf(self.holder, sizeof(self.holder), "%s", holder);
	(void)snprintf(self.instance, sizeof(self.instance), "%s", "main");
	return self;
}

/* Claims whoever led before. */
static inline int test_claim(struct store *s, const char *holder)
{
	struct leader self = test_self(holder), current;

	return store_claim(s, &self, test_dead, NULL, &current);
}

static inline struct store *test_open_leading(const struct place *p)
{
	struct store *s = test_open(p);

	assert_int_equal(test_claim(s, "holder-a"), 0);
	return s;
}

static inline struct key_row test_key(const char *id)
{
	struct key_row row = { .mode = PROFILE_SHARED,
			       .state = KEY_LIVE,
			       .source = KEY_MINTED,
			       .generation = 3,
			       .uid = -1,
			       .term = 1,
			       .created_at_ms = 1700000000001,
			       .expires_at_ms = 1700000000002,
			       .changed_at_ms = 1700000000003,
			       .delete_at_ms = 1700000000004 };

	(void)snprintf(row.id, sizeof(row.id), "%s", id);
	(void)snprintf(row.profile, sizeof(row.profile), "service");
	(void)snprintf(row.hash, sizeof(row.hash), "hash-of-%s", id);
	(void)snprintf(row.alias, sizeof(row.alias), "agents-service");
	(void)snprintf(row.team_id, sizeof(row.team_id), "team-1");
	(void)snprintf(row.request_id, sizeof(row.request_id), "request-1");
	return row;
}

static inline struct lease_row test_lease(const char *id)
{
	struct lease_row row = { .state = LEASE_ACTIVE,
				 .bind = LEASE_TTL,
				 .refreshable = true,
				 .uid = 4294967294U,
				 .gid = 1001,
				 .pid = 77,
				 .holder_pid = 78,
				 .holder_start = 123456789,
				 .term = 1,
				 .granted_at_ms = 1700000000005,
				 .ends_at_ms = 1700000000006,
				 .ends_boot_ms = 1000006 };

	(void)snprintf(row.id, sizeof(row.id), "%s", id);
	(void)snprintf(row.key_id, sizeof(row.key_id), "key-1");
	(void)snprintf(row.profile, sizeof(row.profile), "service");
	(void)snprintf(row.rule, sizeof(row.rule), "everyone");
	(void)snprintf(row.boot_id, sizeof(row.boot_id), "this-boot");
	(void)snprintf(row.request_id, sizeof(row.request_id), "request-2");
	return row;
}

static inline struct audit_row test_audit(const char *event)
{
	struct audit_row row;

	audit_init(&row);
	row.wall_ms = 1700000000007;
	row.boot_ms = 8;
	row.term = 1;
	row.uid = 1000;
	row.gid = 1000;
	row.pid = 77;
	row.start_time = 9;
	(void)snprintf(row.instance, sizeof(row.instance), "main");
	(void)snprintf(row.event, sizeof(row.event), "%s", event);
	(void)snprintf(row.outcome, sizeof(row.outcome), "ok");
	(void)snprintf(row.rule, sizeof(row.rule), "everyone");
	(void)snprintf(row.profile, sizeof(row.profile), "service");
	(void)snprintf(row.lease, sizeof(row.lease), "lease-1");
	(void)snprintf(row.unit, sizeof(row.unit), "agent.service");
	(void)snprintf(row.exe, sizeof(row.exe), "/usr/bin/agent");
	(void)snprintf(row.key_tag, sizeof(row.key_tag), "00112233445566778899aabbccddeeff");
	(void)snprintf(row.detail, sizeof(row.detail), "a fresh key");
	return row;
}

/* One turn that appends `n` audit rows. */
static inline int test_audit_turn(struct store *s, int n)
{
	int r = store_begin(s);

	for (int i = 0; i < n && r == 0; i++) {
		struct audit_row row = test_audit("acquire");

		r = store_append_audit(s, &row);
	}
	if (r == 0)
		return store_commit(s);
	store_rollback(s);
	return r;
}

static inline int test_count(const struct audit_row *row, void *userdata)
{
	(void)row;
	*(uint64_t *)userdata += 1;
	return 0;
}

static inline uint64_t test_audit_count(struct store *s)
{
	uint64_t n = 0;

	assert_int_equal(store_each_audit(s, 0, SIZE_MAX / 2, test_count, &n), 0);
	return n;
}

/* A whole file; free with free(). NULL if it isn't there. */
static inline char *test_read_file(const char *path, size_t *ret_n)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	char *data;

	if (fd < 0)
		return NULL;
	assert_int_equal(fstat(fd, &st), 0);
	data = malloc((size_t)st.st_size + 1);
	assert_non_null(data);
	assert_int_equal(read(fd, data, (size_t)st.st_size), st.st_size);
	(void)close(fd);
	*ret_n = (size_t)st.st_size;
	return data;
}

static inline off_t test_file_size(const char *file, const char *suffix)
{
	char path[192];
	struct stat st;

	(void)snprintf(path, sizeof(path), "%s%s", file, suffix);
	return stat(path, &st) < 0 ? -1 : st.st_size;
}

#define TEST_SKIPPED (-77) /* a child can't have what its check needs */

/* Runs `run` in a child: 0, TEST_SKIPPED or the line of the first CHECK that failed; -1 for a
 * crash. */
static inline int test_in_child(int (*run)(const struct place *p), const struct place *p)
{
	int fds[2], line = -1, status;
	pid_t pid;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		line = run(p);
		_exit(write(fds[1], &line, sizeof(line)) == sizeof(line) ? 0 : 1);
	}
	(void)close(fds[1]);
	if (read(fds[0], &line, sizeof(line)) != sizeof(line))
		line = -1;
	(void)close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return line;
}
