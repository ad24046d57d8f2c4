/*
 * A local HTTP server for tests, on the same loop as what is tested: answers each request by the
 * next step of a script. It listens on a port of 127.0.0.1 that the kernel chooses.
 */
#pragma once

#include "test.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

enum fake_what {
	FAKE_ANSWER, /* sends `text` (with its Content-Length if it has none), stays connected */
	FAKE_CLOSE,  /* sends `text` (NULL: nothing) and closes */
	FAKE_HANG,   /* says nothing, ever */
};

struct fake_step {
	enum fake_what what;
	const char *text;
};

struct fake_conn {
	LIST_ENTRY(fake_conn) link;
	struct fake *fake;
	struct bufferevent *bev;
};

/* A request after the last step repeats it. */
struct fake {
	struct event_base *base;
	struct evconnlistener *listener;
	LIST_HEAD(, fake_conn) conns;
	const struct fake_step *steps;
	size_t n_steps;
	size_t n_requests, n_accepted;
	char request[8192]; /* the last one */
	char url[64];
};

#define FAKE_OK(body) "HTTP/1.1 200 OK\r\n\r\n" body
#define FAKE_SCRIPT(fake, ...)                                        \
	do {                                                          \
		static const struct fake_step script[] = __VA_ARGS__; \
		(fake)->steps = script;                               \
		(fake)->n_steps = ARRAY_SIZE(script);                 \
		(fake)->n_requests = 0;                               \
	} while (0)

static inline void fake_conn_free(struct fake_conn *conn)
{
	LIST_REMOVE(conn, link);
	bufferevent_free(conn->bev);
	free(conn);
}

/* Length of the first whole request in the buffer; 0 while it is incomplete. */
static inline size_t fake_request_len(const char *text, size_t n)
{
	const char *end = memmem(text, n, "\r\n\r\n", 4);
	const char *length;
	size_t len;

	if (!end)
		return 0;
	len = (size_t)(end - text) + 4;
	length = strcasestr(text, "\r\nContent-Length: ");
	if (length && length < end)
		len += strtoul(length + 18, NULL, 10);
	return len <= n ? len : 0;
}

static inline void fake_on_written(struct bufferevent *bev, void *userdata)
{
	(void)bev;
	fake_conn_free(userdata);
}

static inline void fake_on_event(struct bufferevent *bev, short what, void *userdata)
{
	(void)bev;
	(void)what;
	fake_conn_free(userdata);
}

static inline void fake_send(struct bufferevent *bev, const struct fake_step *step)
{
	struct evbuffer *out = bufferevent_get_output(bev);
	const char *body = strstr(step->text, "\r\n\r\n");

	if (step->what == FAKE_ANSWER && body && !strcasestr(step->text, "\r\nContent-Length:")) {
		(void)evbuffer_add(out, step->text, (size_t)(body - step->text));
		(void)evbuffer_add_printf(out, "\r\nContent-Length: %zu%s", strlen(body + 4), body);
	} else {
		(void)evbuffer_add(out, step->text, strlen(step->text));
	}
}

static inline void fake_step(struct fake_conn *conn, const struct fake_step *step)
{
	if (step->what == FAKE_HANG)
		return;
	if (step->text)
		fake_send(conn->bev, step);
	if (step->what == FAKE_CLOSE && !step->text)
		fake_conn_free(conn);
	else if (step->what == FAKE_CLOSE)
		bufferevent_setcb(conn->bev, NULL, fake_on_written, fake_on_event, conn);
}

static inline void fake_on_read(struct bufferevent *bev, void *userdata)
{
	struct fake_conn *conn = userdata;
	struct fake *f = conn->fake;
	struct evbuffer *in = bufferevent_get_input(bev);
	size_t n = evbuffer_get_length(in), len;

	assert_true(n < sizeof(f->request));
	(void)evbuffer_copyout(in, f->request, n);
	f->request[n] = '\0';
	len = fake_request_len(f->request, n);
	if (len == 0)
		return;
	f->request[len] = '\0';
	(void)evbuffer_drain(in, len);
	f->n_requests++;
	fake_step(conn, &f->steps[MIN_OF(f->n_requests, f->n_steps) - 1]);
}

static inline void fake_on_accept(struct evconnlistener *listener, evutil_socket_t fd,
				  struct sockaddr *address, int len, void *userdata)
{
	struct fake *f = userdata;
	struct fake_conn *conn = calloc(1, sizeof(*conn));

	(void)listener;
	(void)address;
	(void)len;
	assert_non_null(conn);
	conn->fake = f;
	conn->bev = bufferevent_socket_new(f->base, fd, BEV_OPT_CLOSE_ON_FREE);
	assert_non_null(conn->bev);
	LIST_INSERT_HEAD(&f->conns, conn, link);
	f->n_accepted++;
	bufferevent_setcb(conn->bev, fake_on_read, NULL, fake_on_event, conn);
	(void)bufferevent_enable(conn->bev, EV_READ | EV_WRITE);
}

static inline struct fake *fake_new(struct event_base *base)
{
	struct fake *f = calloc(1, sizeof(*f));
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t len = sizeof(address);

	assert_non_null(f);
	f->base = base;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	f->listener = evconnlistener_new_bind(base, fake_on_accept, f,
					      LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 64,
					      (struct sockaddr *)&address, sizeof(address));
	assert_non_null(f->listener);
	assert_int_equal(
		getsockname(evconnlistener_get_fd(f->listener), (struct sockaddr *)&address, &len),
		0);
	(void)snprintf(f->url, sizeof(f->url), "http://127.0.0.1:%d", ntohs(address.sin_port));
	return f;
}

/* Closes every connection, as LiteLLM does with those that were idle for 5 s. */
static inline void fake_close_all(struct fake *f)
{
	while (!LIST_EMPTY(&f->conns))
		fake_conn_free(LIST_FIRST(&f->conns));
}

/* From now on connections are refused. */
static inline void fake_stop(struct fake *f)
{
	fake_close_all(f);
	if (f->listener)
		evconnlistener_free(f->listener);
	f->listener = NULL;
}

static inline void fake_free(struct fake *f)
{
	fake_stop(f);
	free(f);
}

static inline void fake_on_late(evutil_socket_t fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	*(bool *)userdata = true;
}

/* Runs the loop until `*done` is true or `ms` have passed. */
static inline void fake_run(struct event_base *base, const bool *done, int ms)
{
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
	bool late = false;
	struct event *timer = evtimer_new(base, fake_on_late, &late);

	assert_non_null(timer);
	(void)evtimer_add(timer, &tv);
	while (!late && !(done && *done))
		(void)event_base_loop(base, EVLOOP_ONCE);
	event_free(timer);
}

static inline void fake_run_until(struct event_base *base, const bool *done)
{
	fake_run(base, done, 5000);
	assert_true(*done);
}
