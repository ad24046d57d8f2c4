/* One call of LiteLLM's admin API: its attempts, and what the caller hears in the end. */
#include "test_upstream.h"

static void test_a_good_answer_needs_one_attempt(void **state)
{
	struct fixture *f = *state;
	struct got g;

	FAKE_SCRIPT(f->fake, { { FAKE_ANSWER, DELETED } });
	g = call(f);
	assert_int_equal(g.kind, LITELLM_OK);
	assert_int_equal(f->fake->n_requests, 1);
	assert_int_equal(f->n_fence, 1);
	assert_false(g.unanswered);
	assert_memory_equal(f->fake->request, "POST /key/delete HTTP/1.1\r\n", 27);
	assert_non_null(strstr(f->fake->request, "\r\n\r\n{\"keys\":[\"" HASH "\"]}"));
	assert_non_null(strstr(f->fake->request, "Bearer " MASTER "\r\n"));
	assert_true(upstream_reachable(f->upstream, NULL));
}

static void test_a_reading_call_is_a_get_of_its_path(void **state)
{
	struct fixture *f = *state;
	struct upstream_question question = { .op = LITELLM_TEAM_FIND,
					      .text = litellm_team_find_path("agents", 1),
					      .asked_alias = "agents" };
	struct upstream_call *ignored;
	struct got g = { 0 };

	FAKE_SCRIPT(f->fake,
		    { { FAKE_ANSWER, FAKE_OK("{\"teams\":[{\"team_id\":\"1\",\"team_alias\":"
					     "\"agents\"}],\"total_pages\":1}    ") } });
	assert_int_equal(upstream_start(f->upstream, &question, on_done, &g, &ignored), 0);
	fake_run_until(f->base, &g.done);
	assert_int_equal(g.kind, LITELLM_OK);
	assert_memory_equal(f->fake->request,
			    "GET /v2/team/list?team_alias=agents&page=1&page_size=100 HTTP/1.1\r\n",
			    67);
}

static void test_failures_are_tried_again_and_the_last_one_counts(void **state)
{
	struct fixture *f = *state;
	struct got g;

	FAKE_SCRIPT(f->fake,
		    { { FAKE_CLOSE, NULL }, { FAKE_CLOSE, DOWN }, { FAKE_ANSWER, DELETED } });
	g = call(f);
	assert_int_equal(g.kind, LITELLM_OK);
	assert_int_equal(f->fake->n_requests, 3);
	assert_int_equal(f->n_fence, 3); /* before each send */
	assert_true(g.unanswered);	 /* the first one may be carried out yet */
	assert_true(upstream_reachable(f->upstream, NULL));
	assert_string_equal(upstream_last_error(f->upstream), "");
}

static void test_attempts_are_limited(void **state)
{
	struct fixture *f = *state;
	struct got g;

	f->timing.retry_attempts = 4;
	FAKE_SCRIPT(f->fake, { { FAKE_ANSWER, DOWN } });
	g = call(f);
	assert_int_equal(g.kind, LITELLM_UNAVAILABLE);
	assert_int_equal(f->fake->n_requests, 4);
	assert_string_equal(g.message, "Internal Server Error");
	assert_false(upstream_reachable(f->upstream, NULL));
	assert_string_equal(upstream_last_error(f->upstream), "Internal Server Error");
}

static void test_a_no_is_not_asked_twice(void **state)
{
	struct fixture *f = *state;
	struct got g;

	FAKE_SCRIPT(f->fake, { { FAKE_ANSWER, "HTTP/1.1 401 X\r\n\r\n"
					      "{\"error\":{\"message\":\"no key\"}} " },
			       { FAKE_ANSWER, "HTTP/1.1 422 X\r\n\r\n"
					      "{\"detail\":\"no list\"}" },
			       { FAKE_ANSWER, DELETED } });
	g = call(f);
	assert_int_equal(g.kind, LITELLM_UNAUTHORIZED);
	assert_int_equal(f->fake->n_requests, 1);
	assert_true(upstream_reachable(f->upstream, NULL));
	assert_string_equal(upstream_last_error(f->upstream),
			    "master key rejected by LiteLLM: no key");
	g = call(f);
	assert_int_equal(g.kind, LITELLM_REFUSED);
	assert_int_equal(f->fake->n_requests, 2);
	assert_int_equal(call(f).kind, LITELLM_OK); /* and neither opens the breaker */
}

static void test_a_dead_port_cannot_have_carried_anything_out(void **state)
{
	struct fixture *f = *state;
	struct got g;

	fake_stop(f->fake);
	g = call(f);
	assert_int_equal(g.kind, LITELLM_UNAVAILABLE);
	assert_false(g.unanswered);
	assert_int_equal(f->n_fence, 3);
	assert_true(*g.message);
}

static void test_silence_may_mean_that_it_was_carried_out(void **state)
{
	struct fixture *f = *state;
	struct got g;

	f->timing.upstream_timeout_ms = 30;
	f->timing.retry_attempts = 1;
	FAKE_SCRIPT(f->fake, { { FAKE_HANG, NULL } });
	g = call(f);
	assert_int_equal(g.kind, LITELLM_UNAVAILABLE);
	assert_true(g.unanswered);
}

static void test_info_has_a_time_out_of_its_own(void **state)
{
	struct fixture *f = *state;
	struct upstream_question question = { .op = LITELLM_INFO, .text = litellm_info_path(HASH) };
	struct upstream_call *ignored;
	struct got g = { 0 };

	f->timing.info_timeout_ms = 30;
	f->timing.retry_attempts = 1;
	FAKE_SCRIPT(f->fake, { { FAKE_HANG, NULL } });
	assert_int_equal(upstream_start(f->upstream, &question, on_done, &g, &ignored), 0);
	fake_run(f->base, &g.done, 500);
	assert_true(g.done);
	assert_int_equal(g.kind, LITELLM_UNAVAILABLE);
}

static void test_retry_after_delays_the_next_attempt(void **state)
{
	struct fixture *f = *state;
	int64_t started = clock_now().boot_ms;

	FAKE_SCRIPT(f->fake, { { FAKE_ANSWER, "HTTP/1.1 429 X\r\nRetry-After: 9\r\n"
					      "\r\n{\"detail\":\"\"}" },
			       { FAKE_ANSWER, DELETED } });
	assert_int_equal(call(f).kind, LITELLM_OK);
	assert_in_range(clock_now().boot_ms - started, 59,
			2000); /* 9 s, cut to the limit of 60 ms */
}

static void test_the_caller_hears_how_long_upstream_asked_to_wait(void **state)
{
	struct fixture *f = *state;
	struct got g;

	f->timing.retry_attempts = 1;
	FAKE_SCRIPT(f->fake, { { FAKE_ANSWER, "HTTP/1.1 429 X\r\nRetry-After: 9\r\n"
					      "\r\n{\"detail\":\"\"}" } });
	g = call(f);
	assert_int_equal(g.kind, LITELLM_UNAVAILABLE);
	assert_int_equal(g.retry_after_ms, 9000);
	assert_false(g.unanswered);
}

static void test_the_master_key_is_in_no_message(void **state)
{
	struct fixture *f = *state;
	struct got g;

	FAKE_SCRIPT(f->fake,
		    { { FAKE_ANSWER, "HTTP/1.1 400 X\r\n\r\n"
				     "{\"detail\":\"who is " MASTER ", " MASTER "?\"}" } });
	g = call(f);
	assert_int_equal(g.kind, LITELLM_REFUSED);
	assert_null(strstr(g.message, MASTER));
	assert_non_null(strstr(g.message, "who is ***"));
}

static void test_a_clock_that_is_wrong_shows(void **state)
{
	struct fixture *f = *state;
	char text[256], date[64];
	struct fake_step step = { FAKE_ANSWER, text };
	time_t now = time(NULL);
	struct tm tm;

	f->fake->steps = &step;
	f->fake->n_steps = 1;
	for (int ahead = 0; ahead <= 3600; ahead += 3600) {
		time_t at = now + ahead;

		assert_non_null(gmtime_r(&at, &tm));
		(void)strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
		(void)snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\nDate: %s\r\n\r\n%s", date,
			       strstr(DELETED, "{"));
		if (ahead == 0)
			assert_int_equal(call(f).clock_offset_ms, 0);
		else
			assert_in_range(-call(f).clock_offset_ms, 3590000, 3600000);
	}
}

static void test_a_call_without_an_upstream_ends_from_the_loop(void **state)
{
	struct fixture *f = *state;

	upstream_free(f->upstream);
	assert_int_equal(upstream_new(&f->upstream, f->base, &f->timing, NULL, NULL), 0);
	assert_int_equal(call(f).kind, LITELLM_UNAVAILABLE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_good_answer_needs_one_attempt),
		TEST(test_a_reading_call_is_a_get_of_its_path),
		TEST(test_failures_are_tried_again_and_the_last_one_counts),
		TEST(test_attempts_are_limited),
		TEST(test_a_no_is_not_asked_twice),
		TEST(test_a_dead_port_cannot_have_carried_anything_out),
		TEST(test_silence_may_mean_that_it_was_carried_out),
		TEST(test_info_has_a_time_out_of_its_own),
		TEST(test_retry_after_delays_the_next_attempt),
		TEST(test_the_caller_hears_how_long_upstream_asked_to_wait),
		TEST(test_the_master_key_is_in_no_message),
		TEST(test_a_clock_that_is_wrong_shows),
		TEST(test_a_call_without_an_upstream_ends_from_the_loop),
	};

	return cmocka_run_group_tests(tests, start, NULL);
}
