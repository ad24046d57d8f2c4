/*
 * Reads the seal key, and makes it once: written and synced under a temporary name, then link(2)ed
 * to its own, which exactly one of several processes can do. It is never replaced.
 */
#include "io/seal_key.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/crypt.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/secret.h"
#include "io/paths.h"
#include "io/secret_file.h"

#define SEAL_KEY_DIGITS ((size_t)2 * SEAL_KEY_SIZE)

static const char *const seal_key_credentials[] = { "seal_key", "keybroker-seal-key", NULL };

char *seal_key_path(bool system_mode)
{
	struct paths paths;
	char *path;

	paths_init(&paths, system_mode);
	path = TAKE(paths.seal_key);
	paths_deinit(&paths);
	return path;
}

char *seal_key_source(bool system_mode)
{
	char *credential = secret_file_credential(seal_key_credentials);

	return credential ? credential : seal_key_path(system_mode);
}

static int seal_key_decode(const struct secret *text, struct secret **ret)
{
	_cleanup_(secret_freep) struct secret *key = secret_new_empty(SEAL_KEY_SIZE);

	if (!key)
		return err_origin(-ENOMEM);
	if (crypt_unhex(secret_text(text), secret_bytes(key), SEAL_KEY_SIZE) < 0)
		return SEAL_KEY_E_REFUSED;
	*ret = TAKE(key);
	return 0;
}

/*
 * Whose the key is: ours, but root makes it for a service that runs as another user
 * (ExecStartPre=+keybrokerd --init-seal): the owner of the state directory, which systemd has made
 * before.
 */
static uid_t seal_key_owner(bool system_mode)
{
	const char *unit = getenv("STATE_DIRECTORY");
	struct paths paths;
	struct stat st;
	uid_t owner = geteuid();

	paths_init(&paths, system_mode);
	if (owner == 0 && stat(unit ? unit : paths.state_dir, &st) == 0)
		owner = st.st_uid;
	paths_deinit(&paths);
	return owner;
}

/* A fresh key, on the disk under a temporary name. */
static int seal_key_write(int fd, uid_t owner)
{
	unsigned char bytes[SEAL_KEY_SIZE];
	char text[SEAL_KEY_DIGITS + 2];
	ssize_t n;
	int r;

	crypt_random(bytes, sizeof(bytes));
	crypt_hex(bytes, sizeof(bytes), text);
	text[SEAL_KEY_DIGITS] = '\n';
	n = write(fd, text, SEAL_KEY_DIGITS + 1);
	r = n < 0 ? err_origin(-errno) : 0;
	crypt_wipe(bytes, sizeof(bytes));
	crypt_wipe(text, sizeof(text));
	if (r == 0 && n != (ssize_t)(SEAL_KEY_DIGITS + 1))
		r = err_origin(-ENOSPC);
	if (r == 0 && fchown(fd, owner, (gid_t)-1) < 0)
		r = err_origin(-errno);
	if (r == 0 && fsync(fd) < 0)
		r = err_origin(-errno);
	return r;
}

static int seal_key_sync_dir(const char *path)
{
	_cleanup_(freep) char *dir = xstrdup(path);
	_cleanup_(fd_close) int fd = -1;

	*strrchr(dir, '/') = '\0';
	fd = open(*dir ? dir : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || fsync(fd) < 0 ? err_origin(-errno) : 0;
}

static int seal_key_create(const char *path, bool system_mode)
{
	_cleanup_(freep) char *temporary = xasprintf("%s.XXXXXX", path);
	_cleanup_(fd_close) int fd = -1;
	/* the system's also holds keybroker.conf, which others may read */
	int r = paths_make_dirs(path, system_mode ? 0755 : 0700);

	if (r)
		return r;
	fd = mkostemp(temporary, O_CLOEXEC); /* 0600 */
	if (fd < 0) {
		log_error("%s cannot be made: %s", path, strerrordesc_np(errno));
		return -errno;
	}
	r = seal_key_write(fd, seal_key_owner(system_mode));
	if (r == 0 && link(temporary, path) == 0)
		log_info("made the seal key %s: without it the stored keys cannot be read", path);
	else if (r == 0 && errno != EEXIST) /* EEXIST: another was first, and its key is the key */
		r = err_origin(-errno);
	if (unlink(temporary) < 0 && r == 0)
		r = err_origin(-errno);
	return r ? r : seal_key_sync_dir(path);
}

static int seal_key_find(bool system_mode, bool create, const char *path, struct secret **ret,
			 char why[512])
{
	int r = secret_file_read_credential(seal_key_credentials, ret, why);

	if (r == SECRET_FILE_E_MISSING)
		r = secret_file_read_of(seal_key_owner(system_mode), path, ret, why);
	if (r != SECRET_FILE_E_MISSING || !create)
		return r;
	r = seal_key_create(path, system_mode);
	return r ? r : secret_file_read_of(seal_key_owner(system_mode), path, ret, why);
}

/* What reading the text gave becomes the key, or the words for the log. */
static int seal_key_take(int r, const char *path, const struct secret *text, const char *why,
			 struct secret **ret)
{
	if (r == SECRET_FILE_E_MISSING)
		return SEAL_KEY_E_MISSING;
	if (r == SECRET_FILE_E_REFUSED)
		log_error("the seal key is not taken: %s", why);
	if (r)
		return r < 0 ? r : SEAL_KEY_E_REFUSED;
	r = seal_key_decode(text, ret);
	if (r == SEAL_KEY_E_REFUSED)
		log_error("the seal key is not taken: it must have %zu hex digits (%s)",
			  SEAL_KEY_DIGITS, path);
	return r;
}

int seal_key_read(const char *path, struct secret **ret)
{
	_cleanup_(secret_freep) struct secret *text = NULL;
	char why[512] = "";
	int r = secret_file_read_grouped(path, &text, why);

	return seal_key_take(r, path, text, why, ret);
}

int seal_key_load(bool system_mode, bool create, struct secret **ret)
{
	_cleanup_(secret_freep) struct secret *text = NULL;
	_cleanup_(freep) char *path = seal_key_path(system_mode);
	char why[512] = "";
	int r = seal_key_find(system_mode, create, path, &text, why);

	return seal_key_take(r, path, text, why, ret);
}
