/* For tests that need both: a broker's rows and turns, and a server on its loop with one client. */
#pragma once

#include "test_daemon.h"
#include "test_server_expect.h"

struct serving {
	struct broker *b;
	struct fixture f;
	struct client c;
};

/* Requests go to `handle`, whose userdata is the struct serving. */
static inline int serving_setup(void **state, server_handle_fn handle)
{
	struct serving *x = calloc(1, sizeof(*x));
	void *b = NULL;
	int fd = -1;

	assert_non_null(x);
	assert_int_equal(broker_setup(&b), 0);
	x->b = b;
	x->f.base = x->b->d.base;
	TAILQ_INIT(&x->f.waiting);
	TAILQ_INIT(&x->f.turn_end);
	assert_in_range(snprintf(x->f.path, sizeof(x->f.path), "%s/s", x->b->place->root), 1,
			sizeof(x->f.path) - 1);
	assert_int_equal(socket_listen(x->f.path, 0700, 0600, (gid_t)-1, &fd), 0);
	assert_int_equal(server_new(&x->f.server, x->f.base, x->b->d.accounts, handle, x), 0);
	server_set_limits(x->f.server, &fixture_limits);
	assert_int_equal(server_listen(x->f.server, fd, false, ""), 0);
	x->c = client_connect(&x->f);
	*state = x;
	return 0;
}

static inline int serving_teardown(void **state)
{
	struct serving *x = *state;
	void *b = x->b;

	client_close(&x->c);
	server_free(x->f.server);
	free(x);
	return broker_teardown(&b);
}

static inline void serving_turn(struct serving *x)
{
	fixture_turn(&x->f);
	assert_int_equal(turn_end(x->b->d.turn), 0);
}

/* Turns, committed as the daemon does, until the next reply is there: it has this code. */
static inline void serving_expect(struct serving *x, uint32_t id, const char *code)
{
	_cleanup_(message_freep) struct message *m = NULL;

	while (!m) {
		serving_turn(x);
		m = client_take(&x->c);
	}
	assert_int_equal(message_id(m), id);
	assert_string_equal(value_text(value_get(message_error(m), "code")), code);
}
