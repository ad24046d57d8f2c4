/*
 * libcurl's multi interface on a libevent loop: curl says which sockets and which time-out it waits
 * for, we tell it when they come. Owns the calls, their timers and one event a socket. Callers are
 * called back from here alone, never from within curl.
 */
#include "io/http.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/secret.h"
#include "io/http_call.h"
#include "io/http_memory.h"

/* One socket that curl waits for. Owned by the http object; curl keeps the pointer. */
struct http_socket {
	LIST_ENTRY(http_socket) link;
	struct event *event;
};

struct http {
	struct event_base *base; /* borrowed */
	char *base_url, *ca_file;
	struct secret *bearer;
	CURLM *multi; /* made by the first call: a start should not wait for curl's */
	struct event *timer;
	LIST_HEAD(, http_socket) sockets;
	LIST_HEAD(, http_call) running, finished;
	bool delivering, doomed; /* callers are called back; one of them has freed us meanwhile */
};

int http_new(struct http **ret, struct event_base *base, const char *base_url, const char *ca_file)
{
	struct http *h = xcalloc(1, sizeof(*h));

	h->base = base;
	h->base_url = xstrdup(base_url);
	h->ca_file = xstrdup(ca_file);
	*ret = h;
	return 0;
}

void http_set_bearer(struct http *h, const struct secret *bearer)
{
	secret_free(h->bearer);
	h->bearer = bearer ? secret_copy(bearer) : NULL;
}

static void http_call_free(struct http_call *call)
{
	if (call->timeout)
		event_free(call->timeout);
	http_call_deinit(call);
	free(call);
}

/* Takes a call away from curl, if it runs; its connection is closed unless it was done with. */
static void http_detach(struct http_call *call)
{
	LIST_REMOVE(call, link);
	if (call->easy)
		(void)curl_multi_remove_handle(call->http->multi, call->easy); /* it is ours */
}

static void http_finish(struct http_call *call, CURLcode result)
{
	struct http *h = call->http;

	http_detach(call);
	http_call_settle(call, result);
	LIST_INSERT_HEAD(&h->finished, call, link);
}

/* Calls the callers back. Any of them may free `h`: it must not be touched after this. */
static void http_deliver(struct http *h)
{
	h->delivering = true;
	while (!LIST_EMPTY(&h->finished)) {
		struct http_call *call = LIST_FIRST(&h->finished);

		LIST_REMOVE(call, link);
		call->done(call->userdata, &call->response);
		http_call_free(call);
	}
	h->delivering = false;
	if (h->doomed)
		http_free(h);
}

/* Picks up what curl has finished. */
static void http_collect(struct http *h)
{
	CURLMsg *message;
	int n;

	while ((message = curl_multi_info_read(h->multi, &n))) {
		CURLcode result = message->data.result;
		char *call = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		(void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &call);
		http_finish((struct http_call *)(void *)call, result);
	}
	http_deliver(h);
}

static void http_drive(struct http *h, curl_socket_t fd, int events)
{
	int n;

	(void)curl_multi_socket_action(h->multi, fd, events, &n); /* errors come with the calls */
	http_collect(h);
}

static void http_on_socket(evutil_socket_t fd, short what, void *userdata)
{
	http_drive(userdata, fd,
		   (what & EV_READ ? CURL_CSELECT_IN : 0) |
			   (what & EV_WRITE ? CURL_CSELECT_OUT : 0));
}

static void http_on_timer(evutil_socket_t fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	http_drive(userdata, CURL_SOCKET_TIMEOUT, 0);
}

static void http_on_timeout(evutil_socket_t fd, short what, void *userdata)
{
	struct http_call *call = userdata;
	struct http *h = call->http;

	(void)fd;
	(void)what;
	http_finish(call, CURLE_OPERATION_TIMEDOUT);
	http_deliver(h);
}

static void http_forget_socket(struct http_socket *s)
{
	LIST_REMOVE(s, link);
	event_free(s->event);
	free(s);
}

/* curl's wish to watch a socket, to watch it for something else, or no more. */
static void http_watch(struct http *h, curl_socket_t fd, int what, struct http_socket *s)
{
	short events = (short)(EV_PERSIST | (what & CURL_POLL_IN ? EV_READ : 0) |
			       (what & CURL_POLL_OUT ? EV_WRITE : 0));

	if (!s) {
		s = xcalloc(1, sizeof(*s));
		LIST_INSERT_HEAD(&h->sockets, s, link);
		(void)curl_multi_assign(h->multi, fd, s); /* fails for unknown sockets only */
	} else {
		event_free(s->event);
	}
	s->event = event_new(h->base, fd, events, http_on_socket, h);
	if (!s->event || event_add(s->event, NULL) < 0)
		abort(); /* out of memory, as in xcalloc() */
}

static int http_socket_function(CURL *easy, curl_socket_t fd, int what, void *userdata,
				void *socket_data)
{
	(void)easy;
	if (what != CURL_POLL_REMOVE)
		http_watch(userdata, fd, what, socket_data);
	else if (socket_data)
		http_forget_socket(socket_data);
	return 0;
}

static int http_timer_function(CURLM *multi, long timeout_ms, void *userdata)
{
	struct http *h = userdata;
	struct timeval tv = { .tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000 };

	(void)multi;
	if (timeout_ms < 0)
		return event_del(h->timer);
	return event_add(h->timer, &tv);
}

static CURLMcode http_configure(struct http *h)
{
	CURLMcode c = curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, http_socket_function);

	if (!c)
		c = curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
	if (!c)
		c = curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, http_timer_function);
	if (!c)
		c = curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h);
	if (!c)
		c = curl_multi_setopt(h->multi, CURLMOPT_MAX_HOST_CONNECTIONS,
				      (long)HTTP_CONNECTIONS_MAX);
	if (!c)
		c = curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)HTTP_CONNECTIONS_MAX);
	return c;
}

static void http_close(struct http *h)
{
	(void)curl_multi_cleanup(h->multi);
	while (!LIST_EMPTY(&h->sockets))
		http_forget_socket(LIST_FIRST(&h->sockets));
	if (h->timer)
		event_free(h->timer);
	h->multi = NULL;
	h->timer = NULL;
	curl_global_cleanup();
}

/* curl's own start counts its callers, so each http object pairs it with a clean-up. */
int http_prepare(struct http *h)
{
	if (h->multi)
		return 0;
	if (curl_global_init_mem(CURL_GLOBAL_DEFAULT, http_memory_new, http_memory_free,
				 http_memory_resize, http_memory_copy, http_memory_new_zero))
		return err_origin(-EIO);
	h->multi = curl_multi_init();
	h->timer = evtimer_new(h->base, http_on_timer, h);
	if (h->multi && h->timer && http_configure(h) == CURLM_OK)
		return 0;
	http_close(h);
	return err_origin(-EIO);
}

static int http_call_run(struct http_call *call, const struct http_request *request)
{
	struct http *h = call->http;
	_cleanup_(freep) char *url = xasprintf("%s%s", h->base_url, request->path);
	struct timeval tv = { .tv_sec = request->timeout_ms / 1000,
			      .tv_usec = request->timeout_ms % 1000 * 1000 };
	int r = http_call_prepare(call, url, h->ca_file, h->bearer, request);

	if (r < 0)
		return err_origin(r);
	call->timeout = evtimer_new(h->base, http_on_timeout, call);
	if (!call->timeout || evtimer_add(call->timeout, &tv) < 0)
		return err_origin(-ENOMEM);
	return curl_multi_add_handle(h->multi, call->easy) ? err_origin(-ENOMEM) : 0;
}

int http_start(struct http *h, const struct http_request *request, http_done_fn done,
	       void *userdata, struct http_call **ret)
{
	struct http_call *call;
	int r = http_prepare(h);

	if (r < 0)
		return r;
	call = xcalloc(1, sizeof(*call));
	call->http = h;
	call->done = done;
	call->userdata = userdata;
	r = http_call_run(call, request);
	if (r < 0) {
		http_call_free(call);
		return r;
	}
	LIST_INSERT_HEAD(&h->running, call, link);
	*ret = call;
	return 0;
}

void http_cancel(struct http_call *call)
{
	http_detach(call);
	http_call_free(call);
}

void http_free(struct http *h)
{
	if (!h)
		return;
	while (!LIST_EMPTY(&h->running))
		http_cancel(LIST_FIRST(&h->running));
	while (!LIST_EMPTY(&h->finished))
		http_cancel(LIST_FIRST(&h->finished));
	h->doomed = h->delivering;
	if (h->doomed)
		return; /* http_deliver() comes back here when its callers are done */
	if (h->multi)
		http_close(h);
	secret_free(h->bearer);
	free(h->base_url);
	free(h->ca_file);
	free(h);
}
