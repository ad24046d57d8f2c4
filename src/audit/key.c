/* Hands the audit key out: as 64 hex digits and a line end, never to a terminal. */
#include "audit/key.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "audit/args.h"
#include "audit/place.h"
#include "base/crypt.h"
#include "base/fd.h"
#include "base/secret.h"

static int key_open(const struct args *a, int *ret)
{
	int fd;

	if (!a->out && isatty(STDOUT_FILENO)) {
		args_say("the audit key is a secret: name a file by --out, or use a pipe");
		return EX_USAGE;
	}
	fd = a->out ? open(a->out, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600)
		    : fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	if (fd < 0) {
		int e = errno;

		args_say("%s cannot be made: %s", a->out ? a->out : "stdout", strerrordesc_np(e));
		return e == EACCES ? EX_NOPERM : EX_CANTCREAT;
	}
	*ret = fd;
	return 0;
}

static int key_put(const struct place *p, const struct args *a, int fd)
{
	_cleanup_(secret_freep) struct secret *key = keyring_audit_key(p->keyring);
	char text[2 * AUDIT_KEY_SIZE + 1];
	ssize_t n;

	if (!key)
		return EX_OSERR;
	crypt_hex((const uint8_t *)secret_text(key), AUDIT_KEY_SIZE, text);
	text[sizeof(text) - 1] = '\n';
	n = write(fd, text, sizeof(text));
	crypt_wipe(text, sizeof(text));
	if (n == (ssize_t)sizeof(text) && (!a->out || fsync(fd) == 0))
		return 0;
	args_say("the audit key cannot be written: %s", strerrordesc_np(n < 0 ? errno : ENOSPC));
	return EX_IOERR;
}

int key_write(const struct args *a)
{
	_cleanup_(fd_close) int fd = -1;
	struct place p = { 0 };
	/* before place_find(), which may take the rights to make it */
	int r = key_open(a, &fd);

	if (r)
		return r;
	r = place_find(a, &p);
	r = r ? r : place_keys(&p);
	r = r ? r : place_open(&p); /* proves that it is this state's key */
	r = r ? r : key_put(&p, a, fd);
	if (r && a->out && unlink(a->out) < 0)
		args_say("%s is left behind without a key", a->out);
	place_deinit(&p);
	return r;
}
