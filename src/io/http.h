/*
 * HTTP to the one upstream: libcurl multi on the caller's libevent loop. Keep-alive (connections
 * idle for over 4 s are not reused: LiteLLM closes at 5 s), no redirects, https or what the config
 * allows, answers up to a size. Buffers that curl frees are wiped (curl_global_init_mem).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

struct event_base;
struct secret;
struct http;
struct http_call;

#define HTTP_BODY_MAX ((size_t)4 << 20)
#define HTTP_CONNECTIONS_MAX 8 /* more calls than that wait for each other */

enum http_failure {
	HTTP_ANSWERED,	/* status and body are there */
	HTTP_NOT_SENT,	/* no connection: upstream cannot have seen it */
	HTTP_NO_ANSWER, /* sent, at least in part, but no whole answer: it may have been carried out
			 */
	HTTP_TOO_LARGE, /* the answer passed HTTP_BODY_MAX */
};

struct http_response {
	enum http_failure failure;
	long status;	  /* 0 unless HTTP_ANSWERED */
	const char *body; /* NUL-terminated; valid during the callback; wiped after it */
	size_t body_len;
	int64_t retry_after_ms; /* Retry-After (seconds or a date); 0: none */
	int64_t date_ms;	/* Date, Unix; 0: none */
	const char *error;	/* curl's words without URL credentials; "" if HTTP_ANSWERED */
};

struct http_request {
	const char *method; /* GET or POST */
	const char *path;   /* with its query; appended to the base URL */
	const char *body;   /* JSON; NULL for none; copied into wiped memory */
	int64_t timeout_ms;
	/*
	 * On a connection of its own: curl repeats a request by itself when a kept-alive connection
	 * ends without an answer, and then nobody knows of the first.
	 */
	bool unrepeated;
};

typedef void (*http_done_fn)(void *userdata, const struct http_response *response);

/* `base_url` without a trailing slash; `ca_file` may be NULL. Both copied. -ENOMEM, -EIO. */
int http_new(struct http **ret, struct event_base *base, const char *base_url,
	     const char *ca_file) _must_check_;
/* Loads TLS and what else the first call would (some ms); at the latest that call does it. -EIO. */
int http_prepare(struct http *h) _must_check_;
/* Cancels all calls (their callbacks do not come). */
void http_free(struct http *h);
DEFINE_CLEANUP(struct http, http)
/* The bearer for every following call; copied. */
void http_set_bearer(struct http *h, const struct secret *bearer);

/*
 * Starts a call. `done` is called exactly once, from the loop and never from within http_start(),
 * unless the call is cancelled; the call is gone when `done` returns. -ENOMEM.
 */
int http_start(struct http *h, const struct http_request *request, http_done_fn done,
	       void *userdata, struct http_call **ret) _must_check_;
void http_cancel(struct http_call *call);
