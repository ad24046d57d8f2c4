/*
 * One datagram to the service manager, by hand: libsystemd brings gcrypt, lzma, zstd and lz4 with
 * it, which cost 1.3 MiB of RSS and 0.5 ms at each start, for a protocol of a single sendto().
 * Keeps nothing open and never blocks.
 */
#include "io/notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/fd.h"
#include "base/log.h"

#define NOTIFY_TEXT_MAX 1024

/* A path, or the name of an abstract socket after '@'. False: neither, or too long. */
static bool notify_address(const char *name, struct sockaddr_un *ret, socklen_t *ret_len)
{
	size_t n = strlen(name);

	if ((name[0] != '/' && name[0] != '@') || n < 2 || n >= sizeof(ret->sun_path))
		return false;
	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(ret->sun_path, name, n);
	if (name[0] == '@')
		ret->sun_path[0] = '\0';
	/* an abstract name ends with its length, a path with its NUL */
	*ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (name[0] == '/'));
	return true;
}

static int notify_send_to(const struct sockaddr_un *to, socklen_t to_len, const char *text)
{
	_cleanup_(fd_close) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 ||
	    sendto(fd, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)to, to_len) < 0)
		return -errno;
	return 0;
}

void notify_send(const char *fmt, ...)
{
	const char *name = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to;
	socklen_t to_len = 0;
	char text[NOTIFY_TEXT_MAX];
	va_list ap;
	int r = -EINVAL;

	if (!name || name[0] == '\0')
		return;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap); /* an over-long status is cut */
	va_end(ap);
	if (notify_address(name, &to, &to_len))
		r = notify_send_to(&to, to_len, text);
	if (r < 0)
		log_warning("the service manager was not told: %s", strerror(-r));
}
