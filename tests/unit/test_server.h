/* For the tests of the server: a real one on a real socket, with a handler that does what the
 * method says. Clients live in the same thread; the loop runs turn by turn where a test says so. */
#pragma once

#include "test.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "daemon/account.h"
#include "daemon/request.h"
#include "daemon/server.h"
#include "io/socket.h"

static const struct server_limits fixture_limits = {
	.connections = 1000, .buffered_bytes = 1 << 20, .waiting = 5000, .idle_reap_ms = 60000
};

struct fixture {
	struct event_base *base;
	struct accounts *accounts;
	struct server *server;
	struct server_limits limits;
	char dir[32], path[48];
	int handled, gone, gone_living; /* requests; of those that waited; whose peer still reads */
	int turn_handled, turn_max;
	size_t big;		      /* bytes of the reply to "big" */
	struct request_list waiting;  /* "wait": until the test answers */
	struct request_list turn_end; /* "commit": answered when the turn ends */
};

/* Sets one limit; the others stay. */
#define FIXTURE_LIMIT(f, limit, value)                        \
	do {                                                  \
		(f)->limits.limit = (value);                  \
		server_set_limits((f)->server, &(f)->limits); \
	} while (0)

/* The first of those that wait; to be answered by the test. */
static inline struct request *fixture_take(struct fixture *f)
{
	struct request *r = TAILQ_FIRST(&f->waiting);

	assert_non_null(r);
	TAILQ_REMOVE(&f->waiting, r, of_waiters);
	return r;
}

static inline void fixture_gone(struct request *r)
{
	struct fixture *f = r->waiting_for;

	f->gone++;
	f->gone_living += request_alive(r);
	TAILQ_REMOVE(&f->waiting, r, of_waiters);
	request_free(r);
}

static inline void fixture_reply(struct request *r, size_t n)
{
	_cleanup_(freep) char *text = xcalloc(1, n + 1);
	struct buf *b = request_reply(r);

	memset(text, 'x', n);
	bool failed = pack_map(b, 1) || pack_text(b, "text") || pack_text_n(b, text, n);
	request_send(r, failed ? -ENOBUFS : 0);
}

static inline void fixture_handle(void *userdata, struct request *r)
{
	struct fixture *f = userdata;
	const char *method = message_method(r->message);

	if (r->refused) {
		request_fail(r, PROTO_DENIED, -1, "%s", r->refused);
		return;
	}
	f->handled++;
	f->turn_handled++;
	r->waiting_for = f;
	if (strcmp(method, "wait") == 0) {
		r->gone = fixture_gone;
		TAILQ_INSERT_TAIL(&f->waiting, r, of_waiters);
	} else if (strcmp(method, "commit") == 0) {
		TAILQ_INSERT_TAIL(&f->turn_end, r, of_waiters);
	} else if (strcmp(method, "subscribe") == 0 && request_subscribe(r)) {
		r->gone = fixture_gone;
		TAILQ_INSERT_TAIL(&f->waiting, r, of_waiters);
		if (pack_map(request_reply(r), 0) == 0)
			request_answer(r);
	} else if (strcmp(method, "fail") == 0 || strcmp(method, "subscribe") == 0) {
		request_fail(r, PROTO_DENIED, 1500, "no: %s", method);
	} else {
		fixture_reply(r, strcmp(method, "big") == 0 ? f->big : 2);
	}
}

static inline void fixture_end_turn(struct fixture *f)
{
	struct request *r;

	while ((r = TAILQ_FIRST(&f->turn_end))) {
		TAILQ_REMOVE(&f->turn_end, r, of_waiters);
		fixture_reply(r, 2);
	}
	f->turn_max = MAX_OF(f->turn_max, f->turn_handled);
}

/* One turn as the daemon runs it; `flags` says whether it waits for something to do. */
static inline void fixture_turn_with(struct fixture *f, int flags)
{
	f->turn_handled = 0;
	server_begin_turn(f->server);
	assert_true(event_base_loop(f->base, EVLOOP_ONCE | flags) >= 0);
	fixture_end_turn(f);
}

static inline void fixture_turn(struct fixture *f)
{
	fixture_turn_with(f, EVLOOP_NONBLOCK);
}

static inline int fixture_setup_as(void **state, bool admin)
{
	static struct fixture the;
	struct fixture *f = &the;
	int fd = -1;

	*state = f;
	*f = (struct fixture){ .dir = "/tmp/server-XXXXXX",
			       .big = 30000,
			       .limits = fixture_limits };
	TAILQ_INIT(&f->waiting);
	TAILQ_INIT(&f->turn_end);
	assert_non_null(mkdtemp(f->dir));
	assert_int_equal(chmod(f->dir, 0755), 0);
	(void)snprintf(f->path, sizeof(f->path), "%s/socket", f->dir);
	f->base = event_base_new();
	f->accounts = accounts_new();
	assert_int_equal(socket_listen(f->path, 0755, 0666, (gid_t)-1, &fd), 0);
	assert_int_equal(server_new(&f->server, f->base, f->accounts, fixture_handle, f), 0);
	server_set_limits(f->server, &f->limits);
	assert_int_equal(server_listen(f->server, fd, admin, ""), 0);
	return 0;
}

static inline int fixture_setup(void **state)
{
	return fixture_setup_as(state, false);
}

static inline int fixture_setup_admin(void **state)
{
	return fixture_setup_as(state, true);
}
