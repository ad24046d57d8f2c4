/*
 * Calls of LiteLLM's admin API: one logical call is some attempts over HTTP, each allowed by the
 * fence, with pauses between them. Owns the HTTP client, the calls under way and the breaker.
 * Callers are called back from the loop only; no text that leaves here holds a credential.
 */
#include "daemon/upstream.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/crypt.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "base/secret.h"
#include "core/retry.h"
#include "core/timing.h"
#include "daemon/places.h"
#include "io/http.h"

#define UPSTREAM_CLOCK_NOISE_MS 2000 /* a Date has whole seconds and has travelled */

/* On upstream.calls until its callback or its cancellation. Waits for its timer, for a place or for
 * its HTTP call: for one of them. */
struct upstream_call {
	LIST_ENTRY(upstream_call) link;
	struct upstream *upstream;
	enum litellm_op op;
	char *text; /* body or path; may hold a key: json_text_free() */
	char *asked_alias;
	int64_t deadline_boot_ms;
	upstream_done_fn done;
	void *userdata;
	struct event *timer;
	struct http_call *http; /* the attempt under way, or NULL */
	struct place place;	/* to make an attempt in */
	int64_t party;
	int64_t attempts; /* made so far */
	bool probe;
	bool aborted; /* upstream is another one now: ends at its timer */
	bool outage;  /* the last attempt failed as it does when upstream is down */
	struct upstream_answer answer; /* of the last attempt */
};

#define UPSTREAM_SAY_MS 60000
#define UPSTREAM_REJECTED "master key rejected by LiteLLM: "

struct upstream {
	struct event_base *base; /* borrowed, as the next two */
	const struct timing *timing;
	upstream_fence_fn fence;
	void *userdata;
	struct http *http;     /* NULL until upstream_set() */
	char *url;	       /* of it */
	struct secret *master; /* to take it out of messages */
	struct breaker breaker;
	enum litellm_op outage_op; /* of the call that opened the breaker */
	LIST_HEAD(, upstream_call) calls;
	struct places *places; /* one for each HTTP connection */
	bool reachable;
	int64_t changed_at_ms; /* wall time of the last change of `reachable`; 0: not asked yet */
	int64_t said_at_ms;    /* boot time at which the log last heard of a failure; 0: never */
	bool said;	       /* and has not heard of its end */
	bool rejected;	       /* the master key, by the last call that was understood */
	char error[LITELLM_MESSAGE_MAX + 64];
};

int upstream_new(struct upstream **ret, struct event_base *base, const struct timing *timing,
		 upstream_fence_fn fence, void *userdata)
{
	struct upstream *u = xcalloc(1, sizeof(*u));

	u->base = base;
	u->timing = timing;
	u->fence = fence;
	u->userdata = userdata;
	u->places = places_new(HTTP_CONNECTIONS_MAX);
	u->reachable = true;
	*ret = u;
	return 0;
}

static void upstream_call_free(struct upstream_call *call)
{
	if (call->http)
		http_cancel(call->http);
	event_free(call->timer);
	json_text_free(call->text);
	free(call->asked_alias);
	litellm_answer_deinit(&call->answer.litellm);
	free(call);
}

/* The timer is the only way into a call, so that nothing happens within its starter. */
static void upstream_call_in(struct upstream_call *call, int64_t ms)
{
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	if (evtimer_add(call->timer, &tv) < 0)
		abort(); /* out of memory, as in xcalloc() */
}

static void upstream_leave_place(struct upstream_call *call)
{
	struct place *next = place_leave(call->upstream->places, &call->place);

	if (next)
		upstream_call_in(CONTAINER_OF(next, struct upstream_call, place), 0);
}

void upstream_cancel(struct upstream_call *call)
{
	upstream_leave_place(call);
	if (call->probe)
		breaker_abandoned(&call->upstream->breaker);
	LIST_REMOVE(call, link);
	upstream_call_free(call);
}

void upstream_free(struct upstream *u)
{
	if (!u)
		return;
	while (!LIST_EMPTY(&u->calls))
		upstream_cancel(LIST_FIRST(&u->calls));
	places_free(u->places);
	http_free(u->http);
	free(u->url);
	secret_free(u->master);
	free(u);
}

/* Its upstream is gone: what was on its way there may have arrived. */
static void upstream_abort(struct upstream_call *call)
{
	if (call->http) {
		http_cancel(TAKE(call->http));
		call->answer.unanswered = true;
	}
	call->probe = false;
	call->aborted = true;
	upstream_leave_place(call);
	upstream_call_in(call, 0);
}

int upstream_set(struct upstream *u, const char *base_url, const char *ca_file,
		 const struct secret *master_key)
{
	struct upstream_call *call;
	struct http *http = NULL;
	int r = http_new(&http, u->base, base_url, ca_file);

	if (r < 0)
		return r;
	http_set_bearer(http, master_key);
	LIST_FOREACH (call, &u->calls, link)
		upstream_abort(call);
	http_free(u->http);
	u->http = http;
	if (!u->url || strcmp(u->url, base_url) != 0)
		u->changed_at_ms = 0;
	free(u->url);
	u->url = xstrdup(base_url);
	secret_free(u->master);
	u->master = secret_copy(master_key);
	u->breaker = (struct breaker){ 0 };
	u->rejected = false;
	u->error[0] = '\0';
	return 0;
}

void upstream_prepare(struct upstream *u)
{
	if (u->http && http_prepare(u->http) < 0)
		log_debug("the HTTP client is not ready yet; the first call tries again");
}

/* Some calls may fail at each retry while others succeed: the log hears of that once a minute. */
static void upstream_say(struct upstream *u, bool reachable)
{
	int64_t now = clock_now().boot_ms;

	if (reachable) {
		if (u->said)
			log_info("upstream: LiteLLM answers again");
		u->said = false;
	} else if (u->said_at_ms == 0 || now - u->said_at_ms >= UPSTREAM_SAY_MS) {
		log_warning("upstream: LiteLLM cannot be used: %s", u->error);
		u->said = true;
		u->said_at_ms = now;
	}
}

static void upstream_set_reachable(struct upstream *u, bool reachable)
{
	if (u->reachable == reachable && u->changed_at_ms)
		return;
	u->reachable = reachable;
	u->changed_at_ms = clock_now().wall_ms;
	upstream_say(u, reachable);
}

/* Takes note of how a call ended: for the breaker, for `status` and, where it is news, for the log.
 */
static void upstream_learn(struct upstream *u, const struct upstream_call *call)
{
	const struct litellm_answer *a = &call->answer.litellm;
	bool refused = a->kind == LITELLM_UNAUTHORIZED;
	int64_t pause = MIN_OF(a->retry_after_ms, u->timing->retry_after_max_ms);

	if (refused && !u->rejected)
		log_error(
			"upstream: %s; keys that exist are served on; put the right one in place and reload",
			a->message);
	if (a->kind != LITELLM_UNAVAILABLE)
		u->rejected = refused;
	(void)snprintf(u->error, sizeof(u->error), "%s",
		       refused || a->kind == LITELLM_UNAVAILABLE ? a->message : "");
	if (call->outage) {
		u->outage_op = call->op;
		breaker_failed(&u->breaker, clock_now().boot_ms,
			       MAX_OF(u->timing->breaker_ms, pause));
	} else {
		breaker_answered(&u->breaker);
	}
	upstream_set_reachable(u, a->kind != LITELLM_UNAVAILABLE);
}

/* The end of a call. The callback may free the upstream or start and cancel other calls. */
static void upstream_finish(struct upstream_call *call)
{
	struct upstream *u = call->upstream;

	upstream_leave_place(call);
	LIST_REMOVE(call, link);
	if (call->attempts > 0 && !call->aborted)
		upstream_learn(u, call);
	if (call->probe && u->breaker.probing)
		breaker_abandoned(&u->breaker);
	call->done(call->userdata, &call->answer);
	upstream_call_free(call);
}

/* Ends a call that may not ask (again). What an earlier attempt heard is kept as the reason. */
static void upstream_give_up(struct upstream_call *call, const char *why, int64_t retry_after_ms)
{
	struct litellm_answer *a = &call->answer.litellm;

	a->kind = LITELLM_UNAVAILABLE;
	if (!*a->message)
		(void)snprintf(a->message, sizeof(a->message), "%s", why);
	a->retry_after_ms = MAX_OF(a->retry_after_ms, retry_after_ms);
	upstream_finish(call);
}

static bool upstream_is_late(const struct upstream_call *call, int64_t boot_ms)
{
	return call->deadline_boot_ms > 0 && boot_ms > call->deadline_boot_ms;
}

/* True if another attempt was arranged. */
static bool upstream_again(struct upstream_call *call)
{
	const struct timing *t = call->upstream->timing;
	const struct litellm_answer *a = &call->answer.litellm;
	uint32_t random;
	int64_t pause;

	if (a->kind != LITELLM_UNAVAILABLE || call->attempts >= t->retry_attempts)
		return false;
	crypt_random(&random, sizeof(random));
	pause = retry_pause_ms(t, call->attempts, a->retry_after_ms, random);
	if (upstream_is_late(call, clock_now().boot_ms + pause))
		return false;
	upstream_leave_place(call);
	upstream_call_in(call, pause);
	return true;
}

static int64_t upstream_clock_offset(const struct http_response *response)
{
	int64_t offset = response->date_ms ? clock_now().wall_ms - response->date_ms : 0;

	return offset > UPSTREAM_CLOCK_NOISE_MS || offset < -UPSTREAM_CLOCK_NOISE_MS ? offset : 0;
}

/* Somebody else's words ("not found"), most likely: who was asked? */
static void upstream_name_url(const struct upstream_call *call, struct litellm_answer *a)
{
	_cleanup_(freep) char *words = xstrdup(a->message);

	(void)snprintf(a->message, sizeof(a->message),
		       "%s%s answered HTTP 404; is LiteLLM at that URL? It said: %s",
		       call->upstream->url, litellm_path(call->op), words);
}

/* Wherever the answer is told of, it is the broker's credential that is at fault. */
static void upstream_name_master(struct litellm_answer *a)
{
	_cleanup_(freep) char *words = xstrdup(a->message);

	(void)snprintf(a->message, sizeof(a->message), UPSTREAM_REJECTED "%s", words);
}

/* One attempt is over. */
static void upstream_on_response(void *userdata, const struct http_response *response)
{
	struct upstream_call *call = userdata;
	struct litellm_answer *a = &call->answer.litellm;

	call->http = NULL;
	litellm_answer_deinit(a);
	litellm_judge(
		call->op,
		&(struct litellm_reply){ response->status, response->body, response->body_len },
		call->asked_alias, secret_text(call->upstream->master), a);
	if (response->failure != HTTP_ANSWERED)
		(void)snprintf(a->message, sizeof(a->message), "%s", response->error);
	if (a->kind == LITELLM_REFUSED && response->status == 404)
		upstream_name_url(call, a);
	if (a->kind == LITELLM_UNAUTHORIZED)
		upstream_name_master(a);
	if (a->kind == LITELLM_UNAVAILABLE)
		a->retry_after_ms = response->retry_after_ms;
	if (a->kind == LITELLM_UNAVAILABLE && response->failure != HTTP_NOT_SENT)
		call->answer.unanswered |= response->status != 429;
	call->answer.clock_offset_ms = upstream_clock_offset(response);
	call->outage =
		a->kind == LITELLM_UNAVAILABLE &&
		(response->status == 0 || response->status == 429 || response->status >= 500);
	if (!upstream_again(call))
		upstream_finish(call);
}

static void upstream_send(struct upstream_call *call)
{
	struct upstream *u = call->upstream;
	bool post = strcmp(litellm_method(call->op), "POST") == 0;
	struct http_request request = {
		.method = litellm_method(call->op),
		.path = post ? litellm_path(call->op) : call->text,
		.body = post ? call->text : NULL,
		.unrepeated = call->op == LITELLM_GENERATE,
		.timeout_ms = call->op == LITELLM_INFO ? u->timing->info_timeout_ms
						       : u->timing->upstream_timeout_ms,
	};

	call->attempts++;
	if (http_start(u->http, &request, upstream_on_response, call, &call->http) < 0)
		upstream_give_up(call, "the HTTP client cannot be started", u->timing->breaker_ms);
}

/* May this attempt be made at all? Ends the call if not. */
static bool upstream_may_send(struct upstream_call *call)
{
	struct upstream *u = call->upstream;
	int64_t now = clock_now().boot_ms;
	enum breaker_verdict verdict;

	if (call->aborted || !u->http) {
		upstream_give_up(call,
				 call->aborted ? "the configuration of upstream was changed"
					       : "no upstream is configured",
				 0);
		return false;
	}
	if (call->attempts > 0 && upstream_is_late(call, now)) {
		upstream_give_up(call, "there was no time left to ask LiteLLM", 0);
		return false;
	}
	/* A call that has started asking goes through with it. */
	verdict = call->attempts == 0 ? breaker_ask(&u->breaker, now) : BREAKER_PASS;
	if (verdict == BREAKER_REFUSE) {
		call->answer.held_up = call->op != u->outage_op;
		upstream_give_up(call, u->error,
				 MAX_OF(breaker_remaining_ms(&u->breaker, now), INT64_C(1)));
		return false;
	}
	call->probe |= verdict == BREAKER_PROBE;
	if (u->fence && !u->fence(u->userdata)) {
		call->aborted = true; /* nothing was learnt of upstream */
		upstream_give_up(
			call,
			"LiteLLM was not asked, since the state did not confirm that this broker leads",
			0);
		return false;
	}
	return true;
}

/* Is it on the queue for a place now? What would not be asked at all needs none. */
static bool upstream_must_wait(struct upstream_call *call)
{
	const struct upstream *u = call->upstream;

	if (call->place.taken || call->aborted || !u->http)
		return false;
	if (call->attempts == 0 && breaker_remaining_ms(&u->breaker, clock_now().boot_ms) > 0)
		return false;
	return !place_take(u->places, &call->place, call->party,
			   call->op == LITELLM_DELETE || call->op == LITELLM_BLOCK);
}

static void upstream_on_timer(evutil_socket_t fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	if (!upstream_must_wait(userdata) && upstream_may_send(userdata))
		upstream_send(userdata);
}

int upstream_start(struct upstream *u, const struct upstream_question *question,
		   upstream_done_fn done, void *userdata, struct upstream_call **ret)
{
	struct upstream_call *call = xcalloc(1, sizeof(*call));

	call->timer = evtimer_new(u->base, upstream_on_timer, call);
	if (!call->timer) {
		json_text_free(question->text);
		free(call);
		return err_origin(-ENOMEM);
	}
	call->upstream = u;
	call->op = question->op;
	call->text = question->text;
	call->asked_alias = xstrdup(question->asked_alias);
	call->deadline_boot_ms = question->deadline_boot_ms;
	call->party = question->party;
	call->done = done;
	call->userdata = userdata;
	LIST_INSERT_HEAD(&u->calls, call, link);
	upstream_call_in(call, 0);
	*ret = call;
	return 0;
}

bool upstream_reachable(const struct upstream *u, int64_t *ret_since_ms)
{
	if (ret_since_ms)
		*ret_since_ms = u->changed_at_ms;
	return u->reachable;
}

bool upstream_is_rejected(const struct upstream *u)
{
	return u->rejected;
}

const char *upstream_last_error(const struct upstream *u)
{
	return u->error;
}
