/* The life of a cached credential. Nothing here waits: who does is in keybroker_get.c. */
#include "clients/c/credential.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "clients/c/fault.h"
#include "clients/c/handle.h"
#include "proto/message.h"

enum {
	CREDENTIAL_TIMEOUT_MS = 30000,
	CREDENTIAL_ACK_MS = 30000,
	CREDENTIAL_WAIT_MS = 1000,  /* for a newer key, at most: the one there is may still do */
	CREDENTIAL_REST_MS = 500,   /* between two readings that the clock asks for */
	CREDENTIAL_PAUSE_MS = 1000, /* after a refusal, doubling */
	CREDENTIAL_MOST_PAUSE_MS = 60000,
	CREDENTIAL_WATCH_MS = 60000, /* other connections of this process may watch too many */
	CREDENTIAL_RELEASE_MS = 1000,
};

/* --- finding --- */

struct credential *credential_find(struct keybroker *k, const char *profile)
{
	struct credential *c = k->credentials;

	while (c && strcmp(c->profile, profile) != 0)
		c = c->next;
	return c;
}

struct credential *credential_add(struct keybroker *k, const char *profile)
{
	size_t n = strlen(profile) + 1;
	struct credential *c = calloc(1, sizeof(*c) + n);

	if (!c)
		return NULL;
	memcpy(c->profile, profile, n);
	c->ack_at_ms = INT64_MAX;
	c->next = k->credentials;
	k->credentials = c;
	return c;
}

struct credential *credential_by_lease(struct keybroker *k, const char *lease)
{
	struct credential *c = k->credentials;

	while (c && (!c->lease || strcmp(keybroker_lease_id(c->lease), lease) != 0))
		c = c->next;
	return c;
}

bool credential_serves(const struct keybroker *k, const struct credential *c, int64_t now)
{
	if (!c->lease || now >= c->expires_ms)
		return false;
	/* a newer one is worth waiting for, unless there is nobody to wait for */
	return !c->stale || now >= c->wait_until_ms || k->wire.fd < 0;
}

/* --- requests --- */

static void credential_begin(struct keybroker *k, struct credential_op *op, const char *method,
			     size_t n_params)
{
	int64_t patience = k->timeout_ms > 0 ? k->timeout_ms : CREDENTIAL_TIMEOUT_MS;

	op->call = (struct call){ .method = method, .params = op->params, .n_params = n_params };
	op->exchange.call = &op->call;
	op->exchange.patience_ms = patience;
	op->under_way = true;
	exchange_begin(k, &op->exchange);
}

static void credential_over(struct credential_op *op)
{
	keybroker_lease_free(TAKE(op->of));
	op->under_way = false;
}

static void credential_cancel(struct keybroker *k, struct credential_op *op)
{
	if (op->under_way)
		exchange_cancel(k, &op->exchange);
	credential_over(op);
}

static void credential_forget(struct credential *c)
{
	keybroker_lease_free(TAKE(c->lease));
	c->stale = c->anew = false;
	c->ack_at_ms = INT64_MAX;
	c->least_generation = c->good_until_ms = 0;
}

/* The moment of a Unix time, on a clock that nobody sets. */
static int64_t credential_moment(int64_t wall_ms)
{
	if (wall_ms == 0)
		return INT64_MAX;
	wall_ms = MIN_OF(MAX_OF(wall_ms, 0), INT64_MAX / 2); /* whatever a server says */
	return wall_ms - clock_now().wall_ms + wire_now_ms();
}

static void credential_take(struct keybroker *k, struct credential *c, struct keybroker_lease *l)
{
	int64_t generation = keybroker_lease_generation(l), now = wire_now_ms();
	int64_t after = k->ack_after_ms > 0 ? k->ack_after_ms : CREDENTIAL_ACK_MS;

	if (c->lease && strcmp(keybroker_lease_id(c->lease), keybroker_lease_id(l)) != 0)
		c->ack_at_ms = INT64_MAX;
	else if (c->lease && generation > keybroker_lease_generation(c->lease))
		c->ack_at_ms = now + after;
	keybroker_lease_free(c->lease);
	c->lease = l;
	c->expires_ms = credential_moment(keybroker_lease_expires_at_ms(l));
	c->refresh_ms = MAX_OF(credential_moment(keybroker_lease_refresh_at_ms(l)),
			       now + CREDENTIAL_REST_MS);
	c->stale = generation < c->least_generation; /* it was answered before it was told */
	c->anew = false;
	c->retry_at_ms = c->pause_ms = 0;
}

static void credential_refused(struct credential *c, enum keybroker_code code)
{
	c->pause_ms =
		MIN_OF(MAX_OF(c->pause_ms * 2, CREDENTIAL_PAUSE_MS), CREDENTIAL_MOST_PAUSE_MS);
	c->retry_at_ms =
		wire_now_ms() + MAX_OF(exchange_jitter(c->pause_ms), c->error.retry_after_ms);
	/* the broker's word, for the key in memory too */
	if (code == KEYBROKER_DENIED || code == KEYBROKER_UNKNOWN_PROFILE)
		credential_forget(c);
}

static void credential_asked(struct keybroker *k, struct exchange *x)
{
	struct credential *c = CONTAINER_OF(x, struct credential, ask.exchange);
	bool again = c->ask.of && !x->reply && x->error.code == KEYBROKER_UNKNOWN_LEASE;
	struct keybroker_lease *l = NULL;

	credential_over(&c->ask);
	/* what may have been done is asked for by the same id */
	if (x->reply || x->error.code != KEYBROKER_TIMEOUT)
		c->request_id[0] = '\0';
	if (again) {
		c->anew = true;
		c->retry_at_ms = 0;
		return;
	}
	c->n_asked++;
	c->error = x->error;
	c->error.code = x->reply ? keybroker_lease_new(&l, x->reply, &c->error) : x->error.code;
	if (l)
		credential_take(k, c, l);
	else
		credential_refused(c, c->error.code);
}

void credential_ask(struct keybroker *k, struct credential *c)
{
	bool again = c->lease && !c->anew;

	if (c->ask.under_way || (!c->request_id[0] && call_draw_id(c->request_id) < 0))
		return;
	c->ask.of = again ? keybroker_lease_ref(c->lease) : NULL;
	c->ask.params[0] = again ? CALL_PARAM_TEXT("lease", keybroker_lease_id(c->lease))
				 : CALL_PARAM_TEXT("profile", c->profile);
	c->ask.params[1] = CALL_PARAM_TEXT("request_id", c->request_id);
	c->ask.exchange.ended = credential_asked;
	credential_begin(k, &c->ask, "acquire", 2);
	c->ask.call.upstream = true;
}

/* --- acknowledging, reporting, watching --- */

static void credential_acked(_unused_ struct keybroker *k, struct exchange *x)
{
	struct credential *c = CONTAINER_OF(x, struct credential, ack.exchange);

	/* without it the older key stays for its grace: nothing is to be done about a refusal */
	message_free(TAKE(x->reply));
	credential_over(&c->ack);
}

static void credential_ack(struct keybroker *k, struct credential *c)
{
	c->ack_at_ms = INT64_MAX;
	c->ack.of = keybroker_lease_ref(c->lease);
	c->ack.params[0] = CALL_PARAM_TEXT("lease", keybroker_lease_id(c->lease));
	c->ack.params[1] = CALL_PARAM_INT("generation", keybroker_lease_generation(c->lease));
	c->ack.exchange.ended = credential_acked;
	credential_begin(k, &c->ack, "ack", 2);
}

enum keybroker_verdict credential_verdict(const struct value *result)
{
	static const char *const names[] = { [KEYBROKER_KEY_UNKNOWN] = "unknown",
					     [KEYBROKER_KEY_ALIVE] = "alive",
					     [KEYBROKER_KEY_REPLACED] = "replaced",
					     [KEYBROKER_KEY_DEAD] = "dead" };
	const char *state = value_text(value_get(result, "state"));

	for (size_t i = 0; state && i < ARRAY_SIZE(names); i++)
		if (strcmp(names[i], state) == 0)
			return (enum keybroker_verdict)i;
	return KEYBROKER_KEY_UNKNOWN;
}

static void credential_reported(_unused_ struct keybroker *k, struct exchange *x)
{
	struct credential *c = CONTAINER_OF(x, struct credential, report.exchange);
	bool gone = !x->reply && x->error.code == KEYBROKER_UNKNOWN_LEASE;

	c->n_reported++;
	c->report_error = x->error;
	c->verdict = gone ? KEYBROKER_KEY_DEAD : KEYBROKER_KEY_UNKNOWN;
	if (x->reply || gone)
		c->report_error.code = KEYBROKER_OK;
	if (x->reply)
		c->verdict = credential_verdict(message_result(x->reply));
	message_free(TAKE(x->reply));
	/* who asks from now on waits for another key */
	if (c->lease == c->report.of && c->verdict >= KEYBROKER_KEY_REPLACED) {
		c->stale = true;
		c->expires_ms = c->retry_at_ms = c->good_until_ms = 0;
		c->anew = gone;
	}
	credential_over(&c->report);
}

void credential_report(struct keybroker *k, struct credential *c, int status)
{
	if (c->report.under_way)
		return;
	c->report.of = keybroker_lease_ref(c->lease);
	c->report.params[0] = CALL_PARAM_TEXT("lease", keybroker_lease_id(c->lease));
	c->report.params[1] = CALL_PARAM_INT("status", status > 0 ? status : -1);
	c->report.exchange.ended = credential_reported;
	credential_begin(k, &c->report, "report", 2);
}

static void credential_watched(struct keybroker *k, struct exchange *x)
{
	k->watching = x->reply != NULL;
	k->watch_at_ms = wire_now_ms() + CREDENTIAL_WATCH_MS;
	/* not told of a rotation, it looks as often as it asks to be told */
	for (struct credential *c = k->credentials; c && !k->watching; c = c->next) {
		c->refresh_ms = MIN_OF(c->refresh_ms, k->watch_at_ms);
		c->good_until_ms = 0;
	}
	message_free(TAKE(x->reply));
}

static void credential_watch(struct keybroker *k)
{
	static const struct call call = { .method = "watch" };

	k->watching = true;
	k->watch.call = &call;
	k->watch.ended = credential_watched;
	k->watch.patience_ms = CREDENTIAL_TIMEOUT_MS;
	exchange_begin(k, &k->watch);
}

/* --- what is due, and what happens --- */

static int64_t credential_ask_at(const struct credential *c)
{
	if (!c->lease || c->ask.under_way)
		return INT64_MAX;
	return MAX_OF(c->retry_at_ms, c->stale || c->anew ? 0 : c->refresh_ms);
}

static int64_t credential_ack_at(const struct credential *c)
{
	return c->ack.under_way ? INT64_MAX : c->ack_at_ms;
}

static int64_t credential_watch_at(const struct keybroker *k)
{
	const struct credential *c = k->credentials;

	while (c && !c->lease) /* there is nothing to be told of before */
		c = c->next;
	return c && k->wire.fd >= 0 && !k->watching ? k->watch_at_ms : INT64_MAX;
}

void credential_tick(struct keybroker *k)
{
	int64_t now = k->credentials ? wire_now_ms() : 0;

	for (struct credential *c = k->credentials; c; c = c->next) {
		if (now >= credential_ask_at(c))
			credential_ask(k, c);
		if (now >= credential_ack_at(c))
			credential_ack(k, c);
	}
	if (now >= credential_watch_at(k))
		credential_watch(k);
}

int64_t credential_due_ms(const struct keybroker *k)
{
	int64_t due = credential_watch_at(k);

	for (const struct credential *c = k->credentials; c; c = c->next)
		due = MIN_OF(due, MIN_OF(credential_ask_at(c), credential_ack_at(c)));
	return due;
}

void credential_heard(struct keybroker *k, const struct message *m)
{
	const struct value *params = message_params(m);
	const char *lease = value_text(value_get(params, "lease"));
	struct credential *c = lease ? credential_by_lease(k, lease) : NULL;
	int64_t generation = 0;

	if (!c)
		return;
	if (strcmp(message_method(m), "revoked") == 0)
		credential_forget(c);
	if (strcmp(message_method(m), "rotated") != 0)
		return;
	(void)value_int(value_get(params, "generation"),
			&generation); /* absent: it is read again */
	c->least_generation = MAX_OF(c->least_generation, generation);
	c->stale = true;
	c->wait_until_ms = wire_now_ms() + CREDENTIAL_WAIT_MS;
	c->retry_at_ms = c->good_until_ms = 0;
}

void credential_met(struct keybroker *k)
{
	for (struct credential *c = k->credentials; c; c = c->next) {
		c->wait_until_ms = wire_now_ms() + CREDENTIAL_WAIT_MS;
		c->good_until_ms = 0;
	}
}

/* Each lease is to be taken up again, and may have got another key meanwhile. */
void credential_lost(struct keybroker *k)
{
	exchange_cancel(k, &k->watch);
	k->watching = false;
	k->watch_at_ms = 0;
	for (struct credential *c = k->credentials; c; c = c->next)
		c->stale = true;
}

/* --- the end --- */

static void credential_free(struct keybroker *k, struct credential *c)
{
	credential_cancel(k, &c->ask);
	credential_cancel(k, &c->ack);
	credential_cancel(k, &c->report);
	credential_forget(c);
	free(c);
}

void credential_release(struct keybroker *k)
{
	handle_lock(k);
	struct credential *c = k->credentials;
	bool there = k->wire.fd >= 0;
	k->timeout_ms = CREDENTIAL_RELEASE_MS;
	k->credentials = NULL; /* nothing is refreshed any more */
	handle_unlock(k);
	while (c) {
		struct credential *next = c->next;

		/* one that does not answer is not waited for twice */
		if (there && c->lease)
			there = keybroker_release(k, keybroker_lease_id(c->lease), NULL) <=
				KEYBROKER_INTERNAL;
		handle_lock(k);
		credential_free(k, c);
		handle_unlock(k);
		c = next;
	}
}

void credential_drop(struct keybroker *k)
{
	while (k->credentials) {
		struct credential *c = k->credentials;

		k->credentials = c->next;
		credential_free(k, c);
	}
	exchange_cancel(k, &k->watch);
	k->watching = false;
}
