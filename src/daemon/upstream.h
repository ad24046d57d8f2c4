/*
 * Calls of LiteLLM's admin API with everything around one HTTP exchange: the fence before each send
 * and retry, attempts with jittered back-off, Retry-After, the breaker; and many calls of one uid
 * don't hold up those of another. One final answer per call.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "core/litellm.h"

struct event_base;
struct timing;
struct upstream;
struct upstream_call;

struct upstream_answer {
	struct litellm_answer litellm;
	int64_t clock_offset_ms; /* our wall clock minus upstream's, by the answer's Date; 0 if it
				    had none */
	/*
	 * Some attempt may have reached upstream and got no answer of LiteLLM's that says what
	 * became of it (none, or a 5xx): it may have been carried out, or may yet be.
	 */
	bool unanswered;
	/* Not asked: calls of another kind have failed of late. `retry_after_ms` says when it may
	 * be. */
	bool held_up;
};

/* Comes once, from the loop, unless the call is cancelled. `answer` may be taken from (set what was
 * taken to NULL). */
typedef void (*upstream_done_fn)(void *userdata, struct upstream_answer *answer);
/* Is the term still ours, as far as can be told? Asked before each send; a no ends the call
 * (UNAVAILABLE). */
typedef bool (*upstream_fence_fn)(void *userdata);

/* `timing` is borrowed and may change between calls. The breaker starts closed. */
int upstream_new(struct upstream **ret, struct event_base *base, const struct timing *timing,
		 upstream_fence_fn fence, void *userdata) _must_check_;
void upstream_free(struct upstream *u);
DEFINE_CLEANUP(struct upstream, upstream)
/* Where upstream is and its credential; may be called again after a reload. Calls under way end
 * with UNAVAILABLE. */
int upstream_set(struct upstream *u, const char *base_url, const char *ca_file,
		 const struct secret *master_key) _must_check_;

/* Does now what the first call would take some ms for. */
void upstream_prepare(struct upstream *u);

struct upstream_question {
	enum litellm_op op;
	char *text; /* body (POST) or path with its query (GET), as core/litellm.h makes them */
	const char *asked_alias;  /* as litellm_judge(); copied */
	int64_t deadline_boot_ms; /* no repeat starts after it; 0: as many as timing says */
	int64_t party; /* whose calls take turns with those of others: uid + 1; 0: no uid's */
};

/*
 * Starts a call. The question's text is taken over (freed and wiped) in any case. With the breaker
 * open the call fails at once (UNAVAILABLE, retry_after_ms set), unless it runs as the probe.
 */
int upstream_start(struct upstream *u, const struct upstream_question *question,
		   upstream_done_fn done, void *userdata, struct upstream_call **ret) _must_check_;
void upstream_cancel(struct upstream_call *call);

/* False once calls fail and until one is answered again; `ret_since_ms` (wall; 0: not
 * asked yet) may be NULL. For `status`. */
bool upstream_reachable(const struct upstream *u, int64_t *ret_since_ms);
/* Does upstream take the master key for wrong, as far as it has said? */
bool upstream_is_rejected(const struct upstream *u);
/* Why the last call failed, without credentials; "" if it did not. */
const char *upstream_last_error(const struct upstream *u);
