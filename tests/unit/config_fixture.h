/* A clean environment, a directory and the captured log, for the tests of what reads configuration.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crypt.h"
#include "base/secret.h"
#include "io/config.h"

struct fixture {
	char dir[64];
	char log[16384]; /* of the last load */
	struct config_env *env;
	struct config *config;
};

static _unused_ void fixture_clean_environment(const char *dir)
{
	static const char *const prefixes[] = { "LITELLM_", "OPENAI_", "KEYBROKER_", "XDG_" };
	static const char *const names[] = { "RUNTIME_DIRECTORY", "STATE_DIRECTORY",
					     "CREDENTIALS_DIRECTORY", "JOURNAL_STREAM" };
	char name[128];

	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
		for (char **at = environ; *at;) {
			size_t n = strcspn(*at, "=");

			if (strncmp(*at, prefixes[i], strlen(prefixes[i])) == 0 &&
			    n < sizeof(name)) {
				memcpy(name, *at, n);
				name[n] = '\0';
				assert_int_equal(unsetenv(name), 0);
			} else {
				at++;
			}
		}
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_int_equal(unsetenv(names[i]), 0);
	assert_int_equal(setenv("HOME", dir, 1), 0);
}

static _unused_ int fixture_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_int_equal(crypt_init(), 0);
	strcpy(f->dir, "/tmp/keybroker-test-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	fixture_clean_environment(f->dir);
	*state = f;
	return 0;
}

static int fixture_remove(const char *path, _unused_ const struct stat *st, _unused_ int type,
			  _unused_ struct FTW *ftw)
{
	return remove(path);
}

static _unused_ int fixture_teardown(void **state)
{
	struct fixture *f = *state;

	config_free(f->config);
	config_env_free(f->env);
	assert_int_equal(nftw(f->dir, fixture_remove, 8, FTW_DEPTH | FTW_PHYS), 0);
	free(f);
	return 0;
}

/* Writes a file below the fixture's directory and yields its path in `path`. */
static _unused_ const char *fixture_write(const struct fixture *f, const char *name, mode_t mode,
					  const char *text, char path[256])
{
	size_t n = strlen(text);
	int fd;

	assert_true(snprintf(path, 256, "%s/%s", f->dir, name) < 256);
	(void)unlink(path); /* of an earlier call */
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, n), n);
	assert_int_equal(fchmod(fd, mode), 0);
	assert_int_equal(close(fd), 0);
	return path;
}

static _unused_ void fixture_mkdir(const struct fixture *f, const char *name)
{
	char path[256];

	assert_true(snprintf(path, sizeof(path), "%s/%s", f->dir, name) < 256);
	assert_int_equal(mkdir(path, 0700), 0);
}

/* What is logged from begin to end goes to f->log. */
static int fixture_capture_begin(const struct fixture *f)
{
	char path[256];
	int saved = dup(STDERR_FILENO), fd;

	assert_true(saved >= 0);
	assert_true(snprintf(path, sizeof(path), "%s/log", f->dir) < 256);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
	assert_int_equal(close(fd), 0);
	return saved;
}

static void fixture_capture_end(struct fixture *f, int saved)
{
	ssize_t n = pread(STDERR_FILENO, f->log, sizeof(f->log) - 1, 0);

	assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
	assert_int_equal(close(saved), 0);
	assert_true(n >= 0);
	f->log[n] = '\0';
}

/* Loads with the environment of now and yields config_load()'s outcome; f->config is the new one.
 */
static _unused_ int fixture_load_request(struct fixture *f, struct config_request *req)
{
	int saved = fixture_capture_begin(f);
	int r;

	config_free(f->config);
	config_env_free(f->env);
	f->config = NULL;
	f->env = NULL;
	assert_int_equal(config_env_new(&f->env), 0);
	req->env = f->env;
	r = config_load(req, &f->config);
	fixture_capture_end(f, saved);
	return r;
}

/* `text` NULL: without a file. */
static _unused_ int fixture_load(struct fixture *f, const char *text)
{
	char path[256];
	struct config_request req = { 0 };

	if (text)
		req.config_file = fixture_write(f, "keybroker.conf", 0600, text, path);
	return fixture_load_request(f, &req);
}

#define assert_logged(f, text)                                                       \
	do {                                                                         \
		if (!strstr((f)->log, (text)))                                       \
			fail_msg("\"%s\" is not in the log:\n%s", (text), (f)->log); \
	} while (0)

static _unused_ size_t fixture_count_lines(const char *text)
{
	size_t n = 0;

	for (; (text = strchr(text, '\n')); text++)
		n++;
	return n;
}
