/*
 * One exchange over libcurl: the inside of struct http_call, shared by http.c (the loop) and
 * http_call.c (requests and answers). Nobody else includes this.
 */
#pragma once

#include <curl/curl.h>
#include <stdbool.h>
#include <sys/queue.h>

#include "base/buf.h"
#include "io/http.h"

struct event;

/* Lives on http.running until its answer or time-out, then on http.finished until it is delivered.
 * Owned by its list; http_cancel() takes it off. */
struct http_call {
	LIST_ENTRY(http_call) link;
	struct http *http;
	CURL *easy; /* in the multi handle while the call runs; NULL once it is finished */
	struct curl_slist *headers;
	struct buf request; /* the body that is sent */
	struct buf answer;
	struct event *timeout;
	http_done_fn done;
	void *userdata;
	struct http_response response; /* once it is finished */
	bool too_large;
	bool has_head; /* the empty line behind the headers was seen */
	size_t header_bytes;
	int64_t retry_after_ms, date_ms;
	char error[CURL_ERROR_SIZE];
};

/* Fills `call->easy` in; -ENOMEM (nothing to undo but http_call_deinit()). */
int http_call_prepare(struct http_call *call, const char *url, const char *ca_file,
		      const struct secret *bearer, const struct http_request *request) _must_check_;
/* Ends the exchange with curl's `result` and fills `call->response` in. The easy handle must have
 * left the multi handle; it is gone afterwards. */
void http_call_settle(struct http_call *call, CURLcode result);
/* Frees all but the call itself and its event. As above. */
void http_call_deinit(struct http_call *call);
