/* A socket in a directory of its own that a client finds somebody listening on. */
#pragma once

#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"

struct place {
	char dir[64];
	char path[96];
	int listen_fd;
};

static _unused_ void place_listen(struct place *p)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	(void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", p->path);
	p->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(p->listen_fd >= 0);
	assert_int_equal(bind(p->listen_fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(p->listen_fd, 16), 0);
}

static _unused_ int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	(void)snprintf(p->dir, sizeof(p->dir), "/tmp/keybroker-test-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	(void)snprintf(p->path, sizeof(p->path), "%s/keybroker.sock", p->dir);
	(void)unsetenv("KEYBROKER_SERVER_UID");
	place_listen(p);
	*state = p;
	return 0;
}

static _unused_ int teardown(void **state)
{
	struct place *p = *state;

	fd_close(&p->listen_fd);
	(void)unlink(p->path); /* a test may have done so */
	(void)rmdir(p->dir);
	free(p);
	return 0;
}
