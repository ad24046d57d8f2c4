/* When upstream is not asked: breaker, fence, deadline; and how calls end that nobody wants. */
#include "test_upstream.h"

static void test_after_a_failed_call_others_fail_at_once_until_one_probe(void **state)
{
	struct fixture *f = *state;
	struct got g;

	f->timing.retry_attempts = 1;
	FAKE_SCRIPT(f->fake, { { FAKE_ANSWER, DOWN }, { FAKE_ANSWER, DELETED } });
	(void)call(f);
	g = call(f);
	assert_int_equal(g.kind, LITELLM_UNAVAILABLE);
	assert_string_equal(g.message, "Internal Server Error");
	assert_in_range(g.retry_after_ms, 1, 40);
	assert_int_equal(f->fake->n_requests, 1);
	assert_int_equal(f->n_fence, 1);
	fake_run(f->base, NULL, 45);
	assert_int_equal(call(f).kind, LITELLM_OK);
	assert_true(upstream_reachable(f->upstream, NULL));
	assert_int_equal(call(f).kind, LITELLM_OK);
	assert_int_equal(f->fake->n_requests, 3);
}

static void test_only_one_probe_is_under_way_and_its_cancellation_makes_room(void **state)
{
	struct fixture *f = *state;
	struct got first = { 0 }, second = { 0 };
	struct upstream_call *probe;

	f->timing.retry_attempts = 1;
	FAKE_SCRIPT(f->fake,
		    { { FAKE_ANSWER, DOWN }, { FAKE_HANG, NULL }, { FAKE_ANSWER, DELETED } });
	(void)call(f);
	fake_run(f->base, NULL, 45);
	probe = start_by(f, 0, &first);
	while (f->fake->n_requests < 2)
		(void)event_base_loop(f->base, EVLOOP_ONCE);
	(void)start_by(f, 0, &second);
	fake_run_until(f->base, &second.done);
	assert_int_equal(second.kind, LITELLM_UNAVAILABLE);
	assert_int_equal(f->fake->n_requests, 2);
	upstream_cancel(probe);
	assert_int_equal(call(f).kind, LITELLM_OK);
	assert_int_equal(first.n, 0);
}

static void test_a_fenced_instance_sends_nothing(void **state)
{
	struct fixture *f = *state;
	struct got g;

	f->fenced = true;
	FAKE_SCRIPT(f->fake, { { FAKE_ANSWER, DELETED } });
	g = call(f);
	assert_int_equal(g.kind, LITELLM_UNAVAILABLE);
	assert_non_null(strstr(g.message, "leads"));
	assert_false(g.unanswered);
	assert_int_equal(f->fake->n_accepted, 0);
	f->fenced = false;
	assert_int_equal(call(f).kind, LITELLM_OK); /* that was no failure of upstream's */
}

static bool fence_once(void *userdata)
{
	struct fixture *f = userdata;

	return f->n_fence++ == 0;
}

static void test_the_fence_is_asked_before_each_retry(void **state)
{
	struct fixture *f = *state;
	struct got g;

	upstream_free(f->upstream);
	assert_int_equal(upstream_new(&f->upstream, f->base, &f->timing, fence_once, f), 0);
	set_upstream(f, f->fake->url);
	FAKE_SCRIPT(f->fake, { { FAKE_ANSWER, DOWN }, { FAKE_ANSWER, DELETED } });
	g = call(f);
	assert_int_equal(g.kind, LITELLM_UNAVAILABLE);
	assert_true(g.unanswered);
	assert_int_equal(f->fake->n_requests, 1);
}

static void test_no_repeat_starts_after_the_deadline(void **state)
{
	struct fixture *f = *state;
	struct got g;

	FAKE_SCRIPT(f->fake, { { FAKE_ANSWER, DOWN } });
	f->timing.retry_base_ms = 2000;
	f->timing.retry_after_max_ms = 2000;
	g = call_by(f, clock_now().boot_ms - 1); /* the first attempt is made however late it is */
	assert_int_equal(g.kind, LITELLM_UNAVAILABLE);
	assert_string_equal(g.message, "Internal Server Error");
	assert_int_equal(f->fake->n_requests, 1);
}

static void test_a_reload_ends_the_calls_under_way(void **state)
{
	struct fixture *f = *state;
	struct got g = { 0 }, waiting = { 0 };

	FAKE_SCRIPT(f->fake, { { FAKE_HANG, NULL }, { FAKE_ANSWER, DELETED } });
	(void)start_by(f, 0, &g);
	while (f->fake->n_requests == 0)
		(void)event_base_loop(f->base, EVLOOP_ONCE);
	(void)start_by(f, 0, &waiting);
	set_upstream(f, f->fake->url);
	assert_false(g.done); /* from the loop, not from here */
	fake_run_until(f->base, &g.done);
	fake_run_until(f->base, &waiting.done);
	assert_int_equal(g.kind, LITELLM_UNAVAILABLE);
	assert_true(g.unanswered);
	assert_int_equal(waiting.kind, LITELLM_UNAVAILABLE);
	assert_false(waiting.unanswered);
	assert_int_equal(call(f).kind, LITELLM_OK);
}

static void test_freed_and_cancelled_calls_stay_silent(void **state)
{
	struct fixture *f = *state;
	struct got g[6] = { 0 };

	FAKE_SCRIPT(f->fake, { { FAKE_HANG, NULL } });
	upstream_cancel(start_by(f, 0, &g[0]));
	for (size_t i = 1; i < ARRAY_SIZE(g); i++)
		(void)start_by(f, 0, &g[i]);
	while (f->fake->n_requests == 0)
		(void)event_base_loop(f->base, EVLOOP_ONCE);
	upstream_free(f->upstream);
	f->upstream = NULL;
	(void)event_base_loop(f->base, EVLOOP_NONBLOCK);
	for (size_t i = 0; i < ARRAY_SIZE(g); i++)
		assert_int_equal(g[i].n, 0);
}

static void test_a_callback_may_free_the_upstream(void **state)
{
	struct fixture *f = *state;
	struct got g = { .frees = f->upstream }, other = { 0 };

	FAKE_SCRIPT(f->fake, { { FAKE_ANSWER, DELETED }, { FAKE_HANG, NULL } });
	(void)start_by(f, 0, &g);
	(void)start_by(f, 0, &other);
	fake_run_until(f->base, &g.done);
	f->upstream = NULL;
	assert_int_equal(other.n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_after_a_failed_call_others_fail_at_once_until_one_probe),
		TEST(test_only_one_probe_is_under_way_and_its_cancellation_makes_room),
		TEST(test_a_fenced_instance_sends_nothing),
		TEST(test_the_fence_is_asked_before_each_retry),
		TEST(test_no_repeat_starts_after_the_deadline),
		TEST(test_a_reload_ends_the_calls_under_way),
		TEST(test_freed_and_cancelled_calls_stay_silent),
		TEST(test_a_callback_may_free_the_upstream),
	};

	return cmocka_run_group_tests(tests, start, NULL);
}
