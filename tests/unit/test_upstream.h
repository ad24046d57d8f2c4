/* What the tests of daemon/upstream share: a server, an upstream that asks it, and quick timing. */
#pragma once

#include "test.h"

#include <stdbool.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/crypt.h"
#include "base/json.h"
#include "base/secret.h"
#include "core/timing.h"
#include "daemon/upstream.h"
#include "fake_http.h"

#define HASH "00000000000000a100000000000000a100000000000000a100000000000000a1"
#define MASTER "a-master-key-of-no-known-form"
#define DELETED FAKE_OK("{\"deleted_keys\":[\"" HASH "\"]}")
#define DOWN "HTTP/1.1 500 X\r\n\r\nInternal Server Error"

struct fixture {
	struct event_base *base;
	struct fake *fake;
	struct upstream *upstream;
	struct timing timing;
	bool fenced;
	int n_fence; /* how often it was asked */
};

struct got {
	bool done;
	int n;
	enum litellm_kind kind;
	char message[LITELLM_MESSAGE_MAX];
	int64_t retry_after_ms, clock_offset_ms;
	bool unanswered;
	struct upstream *frees;
};

static inline bool fence(void *userdata)
{
	struct fixture *f = userdata;

	f->n_fence++;
	return !f->fenced;
}

static inline void set_upstream(struct fixture *f, const char *url)
{
	struct secret *master = secret_new(MASTER, strlen(MASTER));

	assert_int_equal(upstream_set(f->upstream, url, NULL, master), 0);
	secret_free(master);
}

static inline int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	f->timing = timing_default;
	f->timing.upstream_timeout_ms = 3000;
	f->timing.info_timeout_ms = 3000;
	f->timing.retry_base_ms = 2;
	f->timing.retry_after_max_ms = 60;
	f->timing.breaker_ms = 40;
	f->base = event_base_new();
	f->fake = fake_new(f->base);
	if (upstream_new(&f->upstream, f->base, &f->timing, fence, f) < 0)
		return -1;
	set_upstream(f, f->fake->url);
	*state = f;
	return 0;
}

static inline int teardown(void **state)
{
	struct fixture *f = *state;

	upstream_free(f->upstream);
	fake_free(f->fake);
	event_base_free(f->base);
	free(f);
	return 0;
}

static inline void on_done(void *userdata, struct upstream_answer *a)
{
	struct got *g = userdata;

	g->done = true;
	g->n++;
	g->kind = a->litellm.kind;
	(void)snprintf(g->message, sizeof(g->message), "%s", a->litellm.message);
	g->retry_after_ms = a->litellm.retry_after_ms;
	g->clock_offset_ms = a->clock_offset_ms;
	g->unanswered = a->unanswered;
	upstream_free(g->frees);
}

static inline struct upstream_call *start_by(struct fixture *f, int64_t deadline, struct got *g)
{
	struct upstream_question question = { .op = LITELLM_DELETE,
					      .text = litellm_delete_body(HASH),
					      .deadline_boot_ms = deadline };
	struct upstream_call *call = NULL;

	assert_int_equal(upstream_start(f->upstream, &question, on_done, g, &call), 0);
	assert_false(g->done);
	return call;
}

static inline struct got call_by(struct fixture *f, int64_t deadline)
{
	struct got g = { 0 };

	(void)start_by(f, deadline, &g);
	fake_run_until(f->base, &g.done);
	return g;
}

static inline struct got call(struct fixture *f)
{
	return call_by(f, 0);
}

static inline int start(void **state)
{
	(void)state;
	json_init();
	return crypt_init();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
