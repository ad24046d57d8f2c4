/*
 * The key of a profile from memory, and the waiting for one that is not there yet; reports of a
 * refused key; and the environment's key where there is no broker.
 */
#include "clients/c/credential.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/crypt.h"
#include "clients/c/fault.h"
#include "clients/c/handle.h"
#include "proto/message.h"

#define GET_BASE_URL "https://api.openai.com/v1"

enum {
	GET_TIMEOUT_MS = 30000,
	GET_LOOK_MS = 10, /* a call that has the key in memory looks at the connection so seldom */
	GET_MOST_STEPS = 16,
};

/* One call, from its beginning. */
struct get {
	const char *profile;
	int64_t deadline_ms;
	uint64_t n_failures, n_asked; /* what went wrong before is not its own error */
	bool wait;
	bool fell_back;
};

/* --- without a broker --- */

static int get_pack(struct buf *b, const char *key, const char *url)
{
	char hash[SHA256_HEX_SIZE];
	int r;

	crypt_sha256_hex(key, strlen(key), hash);
	hash[8] = '\0';
	const char *const fields[][2] = { { "mode", "environment" },
					  { "api_key", key },
					  { "base_url", url },
					  { "key_hash", hash } };
	r = pack_result(b, 0);
	if (r >= 0)
		r = pack_map(b, ARRAY_SIZE(fields));
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(fields); i++) {
		r = pack_text(b, fields[i][0]);
		if (r >= 0)
			r = pack_text(b, fields[i][1]);
	}
	return r;
}

/* The environment's key as the answer to an acquire that nobody gave. */
static struct keybroker_lease *get_environment(void)
{
	const char *key = find_env("OPENAI_API_KEY"), *url = find_env("OPENAI_BASE_URL");
	const char *required = find_env("KEYBROKER_REQUIRED");
	struct buf b = BUF_INIT(message_reply_limits.bytes);
	struct keybroker_lease *l = NULL;
	struct message *m = NULL;

	if (!key || (required && strcmp(required, "0") != 0))
		return NULL;
	if (get_pack(&b, key, url ? url : GET_BASE_URL) >= 0 &&
	    message_read(&m, b.data, b.len) >= 0)
		l = keybroker_lease_wrap(m);
	buf_deinit(&b);
	return l;
}

/* Whether nobody accepted anywhere: what is closed to us, or has no room, is somebody. */
static bool get_found_nobody(const struct keybroker *k)
{
	if (k->met || k->failure.code != KEYBROKER_UNREACHABLE)
		return false;
	for (size_t i = 0; i < k->failure.n_tried; i++)
		if (k->failure.tried[i].error != ENOENT && k->failure.tried[i].error != ENOTDIR &&
		    k->failure.tried[i].error != ECONNREFUSED &&
		    k->failure.tried[i].error != ENOTSOCK)
			return false;
	return true;
}

static bool get_falls_back(struct keybroker *k, struct get *g)
{
	if (!get_found_nobody(k))
		return false;
	k->environment = get_environment();
	if (!k->environment)
		return false;
	credential_drop(k); /* those who wait for one look here first */
	g->fell_back = true;
	return true;
}

/* --- with one --- */

static struct credential *get_credential(struct keybroker *k, const char *profile)
{
	struct credential *c = credential_find(k, profile);

	return c ? c : credential_add(k, profile);
}

static enum keybroker_code get_is_late(const struct keybroker *k, struct keybroker_error *e)
{
	struct keybroker_error late;

	(void)fault_set(&late, KEYBROKER_TIMEOUT, "the broker did not answer in time (%s)",
			k->path ? k->path : k->paths.path[0]);
	return handle_report(k, &late, e);
}

/* Whether the broker has refused since this call began; a caller who does not wait is told of what
 * came between two of his calls. */
static bool get_was_refused(const struct credential *c, const struct get *g)
{
	return c->n_asked != g->n_asked && c->error.code != KEYBROKER_OK;
}

/* What ends the waiting other than a key; KEYBROKER_OK: nothing yet. */
static enum keybroker_code get_error(struct keybroker *k, struct credential *c, const struct get *g,
				     struct keybroker_error *e)
{
	bool late = wire_now_ms() >= g->deadline_ms;
	bool failed = k->n_failures != g->n_failures;

	if (get_was_refused(c, g)) {
		c->n_told = c->n_asked;
		return handle_report(k, &c->error, e);
	}
	/* an acquire that was under way is waited for, to the end */
	if (failed && (late || (exchange_is_hopeless(k) && !c->ask.exchange.repeated)))
		return handle_report(k, &k->failure, e);
	return late ? get_is_late(k, e) : KEYBROKER_OK;
}

static void get_wait(struct keybroker *k, const struct credential *c, const struct get *g)
{
	int64_t until = g->deadline_ms;

	if (c->lease && c->stale && wire_now_ms() < c->expires_ms)
		until = MIN_OF(until, c->wait_until_ms);
	k->n_waiting++;
	exchange_wait(k, until);
	k->n_waiting--;
}

static bool get_has(struct keybroker *k, const struct credential *c, const struct get *g)
{
	/* a fresh answer is taken as it is, whatever the broker says of its times */
	return credential_serves(k, c, wire_now_ms()) ||
	       (c->lease && g->wait && c->n_asked != g->n_asked && !get_was_refused(c, g));
}

/* A clock that is read several times as fast, and as good for so short a time. */
static int64_t get_coarse_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &t); /* cannot fail for this clock */
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void get_note_good(struct credential *c)
{
	int64_t left = c->expires_ms - wire_now_ms();

	c->good_until_ms = get_coarse_ms() + MIN_OF(left, GET_LOOK_MS);
}

/* The calls of one who does not wait are one, until that has an outcome. */
static void get_begin_with(const struct keybroker *k, struct credential *c, struct get *g)
{
	int64_t now = wire_now_ms();

	g->n_asked = g->wait ? c->n_asked : c->n_told;
	if (g->wait)
		return;
	if (c->tried_ms == 0) {
		c->tried_ms = now;
		c->tried_failures = k->n_failures;
	}
	g->deadline_ms -= now - c->tried_ms;
	g->n_failures = c->tried_failures;
}

/* Takes the time it needs, unless it must not wait. */
static enum keybroker_code get_slowly(struct keybroker *k, struct get *g,
				      struct keybroker_lease **ret, struct keybroker_error *e)
{
	enum keybroker_code code;
	struct credential *c;
	int n = 0;

	for (;;) {
		if (k->environment) {
			*ret = keybroker_lease_ref(k->environment);
			return KEYBROKER_OK;
		}
		c = get_credential(k, g->profile);
		if (!c)
			return fault_set(e, KEYBROKER_NO_MEMORY, "no memory");
		if (n == 0)
			get_begin_with(k, c, g);
		if ((!c->lease || wire_now_ms() >= c->expires_ms) && !get_was_refused(c, g)) {
			credential_ask(k, c);
			if (n == 0)
				exchange_hurry(k);
		}
		if (n++ < GET_MOST_STEPS && exchange_step(k))
			continue;
		if (get_has(k, c, g)) {
			get_note_good(c);
			c->tried_ms = 0;
			*ret = keybroker_lease_ref(c->lease);
			return KEYBROKER_OK;
		}
		if (get_falls_back(k, g))
			continue;
		code = get_error(k, c, g, e);
		if (code != KEYBROKER_OK) {
			c->tried_ms = 0;
			return code;
		}
		if (!g->wait)
			return fault_set(e, KEYBROKER_PENDING, "the broker has not answered yet");
		get_wait(k, c, g);
		n = 1;
	}
}

static void get_begin(struct keybroker *k, struct get *g)
{
	g->deadline_ms = wire_now_ms() + (k->timeout_ms > 0 ? k->timeout_ms : GET_TIMEOUT_MS);
	g->n_failures = k->n_failures;
}

/* The fast way, and most calls': the key was found good a moment ago. */
static struct keybroker_lease *get_quickly(struct keybroker *k, const char *profile)
{
	const struct credential *c;

	if (k->environment)
		return keybroker_lease_ref(k->environment);
	c = credential_find(k, profile);
	return c && get_coarse_ms() < c->good_until_ms ? keybroker_lease_ref(c->lease) : NULL;
}

static enum keybroker_code get(struct keybroker *k, struct get *g, struct keybroker_lease **ret,
			       struct keybroker_error *e)
{
	handle_lock(k);
	struct keybroker_lease *l = get_quickly(k, g->profile);
	if (l) {
		(void)pthread_mutex_unlock(&k->lock); /* nothing has changed for the loop */
		*ret = l;
		return KEYBROKER_OK;
	}
	get_begin(k, g);
	enum keybroker_code code = get_slowly(k, g, ret, e);
	handle_unlock(k);
	if (g->fell_back && k->log)
		k->log(k->log_data, "no keybroker accepts connections: OPENAI_API_KEY of the "
				    "environment is used instead (KEYBROKER_REQUIRED=1 forbids "
				    "that)");
	return code;
}

enum keybroker_code keybroker_get(struct keybroker *k, const char *profile,
				  struct keybroker_lease **ret, struct keybroker_error *ret_error)
{
	struct get g = { .profile = profile ? profile : "service", .wait = true };

	return get(k, &g, ret, ret_error);
}

enum keybroker_code keybroker_try_get(struct keybroker *k, const char *profile,
				      struct keybroker_lease **ret,
				      struct keybroker_error *ret_error)
{
	struct get g = { .profile = profile ? profile : "service" };

	return get(k, &g, ret, ret_error);
}

/* --- reports --- */

/* A lease of the caller's own, or one that is cached no more. */
static enum keybroker_code get_report_alone(struct keybroker *k, const struct keybroker_lease *l,
					    int status, enum keybroker_verdict *ret,
					    struct keybroker_error *e)
{
	const struct call_param params[] = { CALL_PARAM_TEXT("lease", keybroker_lease_id(l)),
					     CALL_PARAM_INT("status", status > 0 ? status : -1) };
	const struct call call = { "report", params, ARRAY_SIZE(params), false, false };
	_cleanup_(message_freep) struct message *reply = NULL;
	enum keybroker_code code = keybroker_call(k, &call, &reply, e);

	*ret = credential_verdict(reply ? message_result(reply) : NULL);
	if (code != KEYBROKER_UNKNOWN_LEASE)
		return code;
	*ret = KEYBROKER_KEY_DEAD;
	return KEYBROKER_OK;
}

/* What ends the waiting for a report; KEYBROKER_PENDING: nothing yet. */
static enum keybroker_code get_reported(struct keybroker *k, const struct credential *c,
					const struct get *g, struct keybroker_error *e)
{
	if (c->n_reported != g->n_asked)
		return handle_report(k, &c->report_error, e);
	if (k->n_failures != g->n_failures && exchange_is_hopeless(k))
		return handle_report(k, &k->failure, e);
	return wire_now_ms() >= g->deadline_ms ? get_is_late(k, e) : KEYBROKER_PENDING;
}

static enum keybroker_code get_report(struct keybroker *k, struct get *g,
				      const struct keybroker_lease *l, enum keybroker_verdict *ret,
				      struct keybroker_error *e)
{
	for (;;) {
		struct credential *c = credential_by_lease(k, keybroker_lease_id(l));
		enum keybroker_code code;

		*ret = KEYBROKER_KEY_REPLACED;
		/* another thread has reported it, or the broker has told */
		if (!c ||
		    strcmp(keybroker_lease_api_key(c->lease), keybroker_lease_api_key(l)) != 0)
			return KEYBROKER_OK;
		code = get_reported(k, c, g, e);
		*ret = c->verdict;
		if (code != KEYBROKER_PENDING)
			return code;
		if (exchange_step(k))
			continue;
		k->n_waiting++;
		exchange_wait(k, g->deadline_ms);
		k->n_waiting--;
	}
}

enum keybroker_code keybroker_report(struct keybroker *k, const struct keybroker_lease *l,
				     int status, enum keybroker_verdict *ret,
				     struct keybroker_error *ret_error)
{
	enum keybroker_verdict verdict = KEYBROKER_KEY_UNKNOWN;
	enum keybroker_code code = KEYBROKER_OK;
	struct get g = { .profile = NULL };

	if (!*keybroker_lease_id(l)) { /* the environment's key is nobody's lease */
		if (ret)
			*ret = verdict;
		return code;
	}
	handle_lock(k);
	struct credential *c = credential_by_lease(k, keybroker_lease_id(l));
	if (c) {
		get_begin(k, &g);
		exchange_hurry(k);
		g.n_asked = c->n_reported;
		credential_report(k, c, status);
		code = get_report(k, &g, l, &verdict, ret_error);
	}
	handle_unlock(k);
	if (!c)
		code = get_report_alone(k, l, status, &verdict, ret_error);
	if (code == KEYBROKER_OK && ret)
		*ret = verdict;
	return code;
}
