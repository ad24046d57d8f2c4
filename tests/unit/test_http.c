/* HTTP against a local server: what comes back, and what became of the request when nothing did. */
#include "test.h"

#include <stdbool.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/crypt.h"
#include "base/secret.h"
#include "fake_http.h"
#include "io/http.h"

struct got {
	bool done;
	int n; /* callbacks */
	enum http_failure failure;
	long status;
	char body[256];
	size_t body_len;
	char error[256];
	int64_t retry_after_ms, date_ms;
	struct http *frees; /* freed by the callback */
};

struct fixture {
	struct event_base *base;
	struct fake *fake;
	struct http *http;
};

static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	struct secret *bearer = secret_new("sk-placeholder-master", 21);

	f->base = event_base_new();
	f->fake = fake_new(f->base);
	if (http_new(&f->http, f->base, f->fake->url, NULL) < 0)
		return -1;
	http_set_bearer(f->http, bearer);
	secret_free(bearer);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	http_free(f->http);
	fake_free(f->fake);
	event_base_free(f->base);
	free(f);
	return 0;
}

static void on_done(void *userdata, const struct http_response *r)
{
	struct got *g = userdata;

	g->done = true;
	g->n++;
	g->failure = r->failure;
	g->status = r->status;
	g->body_len = r->body_len;
	(void)snprintf(g->body, sizeof(g->body), "%s", r->body);
	(void)snprintf(g->error, sizeof(g->error), "%s", r->error);
	g->retry_after_ms = r->retry_after_ms;
	g->date_ms = r->date_ms;
	http_free(g->frees);
}

static struct http_call *start(struct fixture *f, const char *body, int64_t timeout_ms,
			       struct got *g)
{
	struct http_request request = { .method = body ? "POST" : "GET",
					.path = "/key/info?key=x",
					.body = body,
					.timeout_ms = timeout_ms };
	struct http_call *call = NULL;

	assert_int_equal(http_start(f->http, &request, on_done, g, &call), 0);
	assert_false(g->done); /* never from within http_start() */
	return call;
}

static struct got exchange(struct fixture *f, const char *body, int64_t timeout_ms)
{
	struct got g = { 0 };

	(void)start(f, body, timeout_ms, &g);
	fake_run_until(f->base, &g.done);
	return g;
}

static void test_an_answer_comes_with_status_and_body(void **state)
{
	struct fixture *f = *state;
	struct got g;

	FAKE_SCRIPT(f->fake, { { FAKE_ANSWER, FAKE_OK("hello") },
			       { FAKE_ANSWER, "HTTP/1.1 404 X\r\n\r\n" } });
	g = exchange(f, NULL, 5000);
	assert_int_equal(g.failure, HTTP_ANSWERED);
	assert_int_equal(g.status, 200);
	assert_string_equal(g.body, "hello");
	assert_string_equal(g.error, "");
	g = exchange(f, NULL, 5000);
	assert_int_equal(g.status, 404);
	assert_string_equal(g.body, "");
	assert_int_equal(f->fake->n_accepted, 1); /* keep-alive */
}

static void test_the_request_says_who_asks_and_that_it_is_json(void **state)
{
	struct fixture *f = *state;

	FAKE_SCRIPT(f->fake, { { FAKE_ANSWER, FAKE_OK("") } });
	(void)exchange(f, "{\"key\":\"x\"}", 5000);
	assert_memory_equal(f->fake->request, "POST /key/info?key=x HTTP/1.1\r\n", 31);
	assert_non_null(
		strstr(f->fake->request, "\r\nAuthorization: Bearer sk-placeholder-master\r\n"));
	assert_non_null(strstr(f->fake->request, "\r\nContent-Type: application/json\r\n"));
	assert_non_null(strstr(f->fake->request, "\r\nUser-Agent: keybrokerd/"));
	assert_non_null(strstr(f->fake->request, "\r\n\r\n{\"key\":\"x\"}"));
	(void)exchange(f, NULL, 5000);
	assert_memory_equal(f->fake->request, "GET /key/info?key=x HTTP/1.1\r\n", 30);
	assert_non_null(strstr(f->fake->request, "Bearer sk-placeholder-master\r\n"));
}

static void test_a_proxy_in_the_environment_is_not_used(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(setenv("http_proxy", "http://127.0.0.1:1", 1), 0);
	assert_int_equal(setenv("ALL_PROXY", "http://127.0.0.1:1", 1), 0);
	FAKE_SCRIPT(f->fake, { { FAKE_ANSWER, FAKE_OK("") } });
	assert_int_equal(exchange(f, NULL, 5000).status, 200);
	(void)unsetenv("http_proxy");
	(void)unsetenv("ALL_PROXY");
}

static void test_a_redirect_is_not_followed(void **state)
{
	struct fixture *f = *state;
	struct got g;

	FAKE_SCRIPT(f->fake, { { FAKE_ANSWER, "HTTP/1.1 307 X\r\nLocation: /elsewhere\r\n"
					      "\r\n" },
			       { FAKE_ANSWER, FAKE_OK("") } });
	g = exchange(f, NULL, 5000);
	assert_int_equal(g.status, 307);
	assert_int_equal(f->fake->n_requests, 1);
}

static void test_date_and_retry_after_are_read(void **state)
{
	struct fixture *f = *state;
	struct got g;

	FAKE_SCRIPT(f->fake,
		    { { FAKE_ANSWER, "HTTP/1.1 429 X\r\nDate: Sun, 22 Nov 2026 01:46:41 GMT\r\n"
				     "Retry-After: 7\r\n\r\n" },
		      { FAKE_ANSWER, "HTTP/1.1 503 X\r\ndate: Sun, 22 Nov 2026 01:46:41 GMT\r\n"
				     "retry-after:  Sun, 22 Nov 2026 01:47:01 GMT\r\n"
				     "\r\n" },
		      { FAKE_ANSWER, "HTTP/1.1 503 X\r\nDate: yesterday\r\nRetry-After: 7 days\r\n"
				     "\r\n" },
		      { FAKE_ANSWER, "HTTP/1.1 503 X\r\nRetry-After: -3\r\nDated: x\r\n"
				     "\r\n" } });
	g = exchange(f, NULL, 5000);
	assert_int_equal(g.date_ms, INT64_C(1795312001000));
	assert_int_equal(g.retry_after_ms, 7000);
	g = exchange(f, NULL, 5000);
	assert_int_equal(g.date_ms, INT64_C(1795312001000));
	assert_int_equal(g.retry_after_ms, 20000);
	for (int i = 0; i < 2; i++) {
		g = exchange(f, NULL, 5000);
		assert_int_equal(g.status, 503);
		assert_int_equal(g.date_ms, 0);
		assert_in_range(g.retry_after_ms, 0, 7000);
	}
}

static void test_a_refused_connection_was_not_sent(void **state)
{
	struct fixture *f = *state;
	struct got g;

	fake_stop(f->fake);
	g = exchange(f, "{}", 5000);
	assert_int_equal(g.failure, HTTP_NOT_SENT);
	assert_int_equal(g.status, 0);
	assert_true(*g.error);
	assert_null(strstr(g.error, "placeholder"));
}

static void test_tls_to_a_plain_server_was_not_sent(void **state)
{
	struct fixture *f = *state;
	char url[80];

	FAKE_SCRIPT(f->fake, { { FAKE_CLOSE, "HTTP/1.1 400 X\r\n\r\n" } });
	(void)snprintf(url, sizeof(url), "https%s", f->fake->url + strlen("http"));
	http_free(f->http);
	assert_int_equal(http_new(&f->http, f->base, url, NULL), 0);
	assert_int_equal(exchange(f, "{}", 500).failure, HTTP_NOT_SENT);
}

static void test_a_missing_ca_file_was_not_sent(void **state)
{
	struct fixture *f = *state;

	http_free(f->http);
	assert_int_equal(http_new(&f->http, f->base, "https://127.0.0.1:1", "/nonexistent/ca.pem"),
			 0);
	assert_int_equal(exchange(f, NULL, 5000).failure, HTTP_NOT_SENT);
}

static void test_other_protocols_are_refused(void **state)
{
	struct fixture *f = *state;

	http_free(f->http);
	assert_int_equal(http_new(&f->http, f->base, "file:///etc/hostname#", NULL), 0);
	assert_non_null(strstr(exchange(f, NULL, 5000).error, "not supported or disabled"));
}

static void test_a_hanging_server_may_have_carried_it_out(void **state)
{
	struct fixture *f = *state;
	struct got g;

	FAKE_SCRIPT(f->fake, { { FAKE_HANG, NULL } });
	g = exchange(f, "{}", 50);
	assert_int_equal(f->fake->n_requests, 1);
	assert_int_equal(g.failure, HTTP_NO_ANSWER);
	assert_int_equal(g.status, 0);
	assert_true(*g.error);
}

static void test_an_answer_that_breaks_off_is_none(void **state)
{
	struct fixture *f = *state;
	struct got g;

	FAKE_SCRIPT(f->fake,
		    { { FAKE_CLOSE, NULL },
		      { FAKE_CLOSE, "HTTP/1.1 200 OK\r\nContent-Le" },
		      { FAKE_CLOSE, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"half\":" } });
	for (int i = 0; i < 3; i++) {
		g = exchange(f, "{}", 5000);
		assert_int_equal(g.failure, HTTP_NO_ANSWER);
		assert_int_equal(g.status, 0);
		assert_string_equal(g.body, "");
	}
	assert_int_equal(f->fake->n_requests, 3);
}

/* LiteLLM closes connections that were idle for 5 s: that must not cost a request. */
static void test_a_closed_idle_connection_is_replaced(void **state)
{
	struct fixture *f = *state;

	FAKE_SCRIPT(f->fake, { { FAKE_ANSWER, FAKE_OK("") } });
	assert_int_equal(exchange(f, "{}", 5000).status, 200);
	fake_close_all(f->fake);
	assert_int_equal(exchange(f, "{}", 5000).status, 200);
	assert_int_equal(f->fake->n_accepted, 2);
}

/* The same, when the close crosses the request on its way. */
static void test_a_reused_connection_closed_on_a_request_is_tried_afresh(void **state)
{
	struct fixture *f = *state;

	FAKE_SCRIPT(f->fake, { { FAKE_ANSWER, FAKE_OK("") },
			       { FAKE_CLOSE, NULL },
			       { FAKE_ANSWER, FAKE_OK("ok") } });
	assert_int_equal(exchange(f, "{}", 5000).status, 200);
	assert_string_equal(exchange(f, "{}", 5000).body, "ok");
	assert_int_equal(f->fake->n_requests, 3);
}

static void test_an_answer_that_announces_too_much_is_refused(void **state)
{
	struct fixture *f = *state;

	FAKE_SCRIPT(f->fake,
		    { { FAKE_ANSWER, "HTTP/1.1 200 OK\r\nContent-Length: 4194305\r\n\r\nx" } });
	assert_int_equal(exchange(f, NULL, 5000).failure, HTTP_TOO_LARGE);
}

static void check_streamed(struct fixture *f, size_t n, enum http_failure failure)
{
	static const char head[] = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
	char *text = malloc(sizeof(head) + n);
	struct fake_step step = { FAKE_CLOSE, text };
	struct got g;

	assert_non_null(text);
	memset(text, 'x', sizeof(head) + n);
	memcpy(text, head, sizeof(head) - 1);
	text[sizeof(head) - 1 + n] = '\0';
	f->fake->steps = &step;
	f->fake->n_steps = 1;
	g = exchange(f, NULL, 5000);
	assert_int_equal(g.failure, failure);
	if (failure == HTTP_ANSWERED)
		assert_int_equal(g.body_len, n);
	free(text);
}

static void test_an_answer_of_unknown_length_is_read_up_to_the_limit(void **state)
{
	check_streamed(*state, HTTP_BODY_MAX, HTTP_ANSWERED);
	check_streamed(*state, HTTP_BODY_MAX + 1, HTTP_TOO_LARGE);
}

static void test_endless_headers_are_refused(void **state)
{
	struct fixture *f = *state;
	char *text = malloc(200000);
	struct fake_step step = { FAKE_CLOSE, text };
	size_t n = 0;

	assert_non_null(text);
	n += (size_t)sprintf(text, "HTTP/1.1 200 OK\r\n");
	while (n < 190000)
		n += (size_t)sprintf(text + n,
				     "X-%zu: 0123456789012345678901234567890123456789\r\n", n);
	f->fake->steps = &step;
	f->fake->n_steps = 1;
	assert_int_equal(exchange(f, NULL, 5000).failure, HTTP_TOO_LARGE);
	free(text);
}

static void test_a_cancelled_call_is_not_called_back(void **state)
{
	struct fixture *f = *state;
	struct got cancelled = { 0 };
	struct http_call *call;

	FAKE_SCRIPT(f->fake, { { FAKE_ANSWER, FAKE_OK("") } });
	http_cancel(start(f, "{}", 5000, &cancelled));
	call = start(f, "{}", 5000, &cancelled);
	while (f->fake->n_requests == 0) /* cancelled with its answer on the way */
		(void)event_base_loop(f->base, EVLOOP_ONCE);
	if (!cancelled.done)
		http_cancel(call);
	cancelled.n = 0;
	assert_int_equal(exchange(f, "{}", 5000).status, 200);
	assert_int_equal(cancelled.n, 0);
}

static void test_more_calls_than_connections_are_all_answered(void **state)
{
	struct fixture *f = *state;
	struct got g[40] = { 0 };

	FAKE_SCRIPT(f->fake, { { FAKE_ANSWER, FAKE_OK("") } });
	for (size_t i = 0; i < ARRAY_SIZE(g); i++)
		(void)start(f, "{}", 5000, &g[i]);
	for (size_t i = 0; i < ARRAY_SIZE(g); i++) {
		fake_run_until(f->base, &g[i].done);
		assert_int_equal(g[i].status, 200);
		assert_int_equal(g[i].n, 1);
	}
	assert_in_range(f->fake->n_accepted, 1, 8);
}

/* A call that waits for a connection has its own time-out, and has not been sent. */
static void test_a_call_without_a_connection_times_out_too(void **state)
{
	struct fixture *f = *state;
	struct got g[9] = { 0 };

	FAKE_SCRIPT(f->fake, { { FAKE_HANG, NULL } });
	for (size_t i = 0; i < ARRAY_SIZE(g); i++)
		(void)start(f, "{}", i < 8 ? 300 : 100, &g[i]);
	fake_run_until(f->base, &g[8].done);
	assert_int_equal(g[8].failure, HTTP_NOT_SENT);
	fake_run_until(f->base, &g[0].done);
	assert_int_equal(g[0].failure, HTTP_NO_ANSWER);
}

static void test_freeing_with_calls_in_flight_is_silent(void **state)
{
	struct fixture *f = *state;
	struct got g[20] = { 0 };

	FAKE_SCRIPT(f->fake, { { FAKE_HANG, NULL } });
	for (size_t i = 0; i < ARRAY_SIZE(g); i++)
		(void)start(f, "{}", 5000, &g[i]);
	while (f->fake->n_requests == 0)
		(void)event_base_loop(f->base, EVLOOP_ONCE);
	http_free(f->http);
	f->http = NULL;
	(void)event_base_loop(f->base, EVLOOP_NONBLOCK);
	for (size_t i = 0; i < ARRAY_SIZE(g); i++)
		assert_int_equal(g[i].n, 0);
}

static void test_a_callback_may_free_the_client(void **state)
{
	struct fixture *f = *state;
	struct got g = { .frees = f->http }, other = { 0 };

	FAKE_SCRIPT(f->fake, { { FAKE_ANSWER, FAKE_OK("") }, { FAKE_HANG, NULL } });
	(void)start(f, "{}", 5000, &g);
	(void)start(f, "{}", 5000, &other);
	fake_run_until(f->base, &g.done);
	f->http = NULL;
	(void)event_base_loop(f->base, EVLOOP_NONBLOCK);
	assert_int_equal(other.n, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_an_answer_comes_with_status_and_body),
		TEST(test_the_request_says_who_asks_and_that_it_is_json),
		TEST(test_a_proxy_in_the_environment_is_not_used),
		TEST(test_a_redirect_is_not_followed),
		TEST(test_date_and_retry_after_are_read),
		TEST(test_a_refused_connection_was_not_sent),
		TEST(test_tls_to_a_plain_server_was_not_sent),
		TEST(test_a_missing_ca_file_was_not_sent),
		TEST(test_other_protocols_are_refused),
		TEST(test_a_hanging_server_may_have_carried_it_out),
		TEST(test_an_answer_that_breaks_off_is_none),
		TEST(test_a_closed_idle_connection_is_replaced),
		TEST(test_a_reused_connection_closed_on_a_request_is_tried_afresh),
		TEST(test_an_answer_that_announces_too_much_is_refused),
		TEST(test_an_answer_of_unknown_length_is_read_up_to_the_limit),
		TEST(test_endless_headers_are_refused),
		TEST(test_a_cancelled_call_is_not_called_back),
		TEST(test_more_calls_than_connections_are_all_answered),
		TEST(test_a_call_without_a_connection_times_out_too),
		TEST(test_freeing_with_calls_in_flight_is_silent),
		TEST(test_a_callback_may_free_the_client),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
