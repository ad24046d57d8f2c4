/*
 * One HTTP exchange: sets a curl handle up so that it does nothing unasked (no redirects, no proxy
 * from the environment, no other protocols), collects the answer within limits, and says what
 * became of the request. Owned by io/http.c; knows no event loop.
 */
#include "io/http_call.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/secret.h"

#define HTTP_HEADERS_MAX ((size_t)64 << 10)
/* curl counts whole seconds: 3 means up to 3.999, and LiteLLM closes at 5 */
#define HTTP_REUSE_SECONDS 3
#define HTTP_CURL_BUFFER (16L << 10)
#define HTTP_RETRY_AFTER_MAX 86400 /* seconds; only keeps the arithmetic small */

/* The value of a header line if it is of that name: the first byte after the colon and blanks. */
static const char *http_header_value(const char *line, const char *name)
{
	size_t n = strlen(name);

	if (strncasecmp(line, name, n) != 0 || line[n] != ':')
		return NULL;
	line += n + 1;
	return line + strspn(line, " \t");
}

/* Seconds, or a date to be compared with the answer's own. */
static int64_t http_retry_after(const char *value, int64_t date_ms)
{
	int64_t now_ms = date_ms ? date_ms : clock_now().wall_ms;
	char *end;
	long seconds = strtol(value, &end, 10);

	if (end == value) {
		time_t at = curl_getdate(value, NULL);

		seconds = at < 0 ? 0 : (long)(at - now_ms / 1000);
	} else if (*end && !strchr(" \t\r\n", *end)) {
		return 0;
	}
	return MAX_OF(MIN_OF(seconds, (long)HTTP_RETRY_AFTER_MAX), 0L) * INT64_C(1000);
}

static void http_call_header(struct http_call *call, const char *line)
{
	const char *date = http_header_value(line, "Date");
	const char *retry = http_header_value(line, "Retry-After");

	if (date) {
		time_t at = curl_getdate(date, NULL);

		call->date_ms = at < 0 ? 0 : at * INT64_C(1000);
	}
	if (retry)
		call->retry_after_ms = http_retry_after(retry, call->date_ms);
}

/* curl's callback: a short count ends the transfer. A line is not NUL-terminated. */
static size_t http_on_header(char *data, size_t size, size_t n, void *userdata)
{
	struct http_call *call = userdata;
	char line[128];
	size_t len = MIN_OF(n * size, sizeof(line) - 1);

	call->header_bytes += n * size;
	if (call->header_bytes > HTTP_HEADERS_MAX) {
		call->too_large = true;
		return 0;
	}
	memcpy(line, data, len);
	line[len] = '\0';
	call->has_head = *line == '\r' || *line == '\n'; /* a 100 has a head of its own before */
	http_call_header(call, line);
	return n * size;
}

static size_t http_on_data(char *data, size_t size, size_t n, void *userdata)
{
	struct http_call *call = userdata;

	if (buf_append(&call->answer, data, n * size) < 0) {
		call->too_large = true;
		return 0;
	}
	return n * size;
}

static int http_call_add_header(struct http_call *call, const char *line)
{
	struct curl_slist *list = curl_slist_append(call->headers, line);

	if (!list)
		return -ENOMEM;
	call->headers = list;
	return 0;
}

/* The list copies the lines into memory that our allocator wipes. With the content type that curl
 * would send, LiteLLM answers 422. */
static int http_call_headers(struct http_call *call, const struct secret *bearer)
{
	_cleanup_(buf_deinit) struct buf line = BUF_INIT(0);
	int r = 0;

	if (bearer) {
		r = buf_printf(&line, "Authorization: Bearer %s", secret_text(bearer));
		if (r == 0)
			r = http_call_add_header(call, buf_text(&line));
	}
	if (r == 0)
		r = http_call_add_header(call, "Content-Type: application/json");
	if (r == 0)
		r = http_call_add_header(call, "Accept: application/json");
	return r;
}

static int http_call_body(struct http_call *call, const struct http_request *request)
{
	int r;

	if (strcmp(request->method, "POST") != 0)
		return curl_easy_setopt(call->easy, CURLOPT_HTTPGET, 1L) ? -ENOMEM : 0;
	r = buf_append(&call->request, request->body ? request->body : "",
		       request->body ? strlen(request->body) : 0);
	if (r < 0)
		return r;
	if (curl_easy_setopt(call->easy, CURLOPT_POST, 1L) ||
	    curl_easy_setopt(call->easy, CURLOPT_POSTFIELDS, buf_text(&call->request)) ||
	    curl_easy_setopt(call->easy, CURLOPT_POSTFIELDSIZE, (long)call->request.len))
		return -ENOMEM;
	return 0;
}

/* What curl must not do by itself. The time-out is http.c's: curl's would not count the wait for a
 * free connection. Without QUICK_EXIT the end of a call would wait for the resolver's thread. */
static CURLcode http_call_restrict(CURL *easy)
{
	const struct {
		CURLoption option;
		long value;
	} options[] = {
		{ CURLOPT_FOLLOWLOCATION, 0 },
		{ CURLOPT_NOSIGNAL, 1 },
		{ CURLOPT_QUICK_EXIT, 1 },
		{ CURLOPT_MAXAGE_CONN, HTTP_REUSE_SECONDS },
		{ CURLOPT_BUFFERSIZE, HTTP_CURL_BUFFER },
		{ CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1 },
		{ CURLOPT_TCP_NODELAY, 1 },
		{ CURLOPT_SSL_VERIFYPEER, 1 },
		{ CURLOPT_SSL_VERIFYHOST, 2 },
		{ CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2 },
	};
	CURLcode c = curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");

	if (!c)
		c = curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* none from the environment */
	for (size_t i = 0; i < ARRAY_SIZE(options) && !c; i++)
		c = curl_easy_setopt(easy, options[i].option, options[i].value);
	if (!c)
		c = curl_easy_setopt(easy, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)HTTP_BODY_MAX);
	return c;
}

static CURLcode http_call_connect(struct http_call *call, const char *url, const char *ca_file)
{
	CURL *easy = call->easy;
	CURLcode c = curl_easy_setopt(easy, CURLOPT_URL, url);

	if (!c && ca_file)
		c = curl_easy_setopt(easy, CURLOPT_CAINFO, ca_file);
	if (!c)
		c = curl_easy_setopt(easy, CURLOPT_USERAGENT, "keybrokerd/" KEYBROKER_VERSION);
	if (!c)
		c = curl_easy_setopt(easy, CURLOPT_HTTPHEADER, call->headers);
	if (!c)
		c = curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->error);
	if (!c)
		c = curl_easy_setopt(easy, CURLOPT_PRIVATE, call);
	if (!c)
		c = curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, http_on_data);
	if (!c)
		c = curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
	if (!c)
		c = curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, http_on_header);
	if (!c)
		c = curl_easy_setopt(easy, CURLOPT_HEADERDATA, call);
	return c;
}

int http_call_prepare(struct http_call *call, const char *url, const char *ca_file,
		      const struct secret *bearer, const struct http_request *request)
{
	int r;

	call->answer = BUF_INIT(HTTP_BODY_MAX);
	call->easy = curl_easy_init();
	if (!call->easy)
		return -ENOMEM;
	r = http_call_headers(call, bearer);
	if (r == 0)
		r = http_call_body(call, request);
	if (r == 0 &&
	    (http_call_restrict(call->easy) || http_call_connect(call, url, ca_file) ||
	     curl_easy_setopt(call->easy, CURLOPT_FRESH_CONNECT, (long)request->unrepeated)))
		r = -ENOMEM;
	return r;
}

/* Whether upstream may have seen the request: curl counts what it has written of it. */
static enum http_failure http_call_failure(const struct http_call *call, CURLcode result)
{
	long sent = 0;

	if (result == CURLE_OK)
		return HTTP_ANSWERED;
	if (call->too_large || result == CURLE_FILESIZE_EXCEEDED)
		return HTTP_TOO_LARGE;
	if (curl_easy_getinfo(call->easy, CURLINFO_REQUEST_SIZE, &sent) || sent > 0)
		return HTTP_NO_ANSWER;
	return HTTP_NOT_SENT;
}

static const char *http_call_error(const struct http_call *call, CURLcode result)
{
	switch (call->response.failure) {
	case HTTP_ANSWERED:
		return "";
	case HTTP_TOO_LARGE:
		return "the answer is too large";
	case HTTP_NOT_SENT:
	case HTTP_NO_ANSWER:
		break;
	}
	if (result == CURLE_OPERATION_TIMEDOUT)
		return "no answer in time"; /* our timer's, so that curl has no words for it */
	return *call->error ? call->error : curl_easy_strerror(result);
}

static void http_call_answered(struct http_call *call)
{
	struct http_response *response = &call->response;

	(void)curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &response->status);
	response->body = buf_text(&call->answer);
	response->body_len = call->answer.len;
	response->retry_after_ms = call->retry_after_ms;
	response->date_ms = call->date_ms;
	if (!response->body)
		*response = (struct http_response){ .failure = HTTP_NO_ANSWER,
						    .body = "",
						    .error = "out of memory" };
}

void http_call_settle(struct http_call *call, CURLcode result)
{
	call->response = (struct http_response){ .body = "" };
	/* curl calls it a success if the connection ends within the headers */
	if (result == CURLE_OK && !call->has_head)
		result = CURLE_GOT_NOTHING;
	call->response.failure = http_call_failure(call, result);
	call->response.error = http_call_error(call, result);
	if (call->response.failure == HTTP_ANSWERED)
		http_call_answered(call);
	curl_easy_cleanup(call->easy);
	call->easy = NULL;
}

void http_call_deinit(struct http_call *call)
{
	curl_easy_cleanup(call->easy);
	curl_slist_free_all(call->headers);
	buf_deinit(&call->request);
	buf_deinit(&call->answer);
}
