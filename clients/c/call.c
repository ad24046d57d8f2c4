/*
 * One call: packs the request, sends it, takes the reply apart, and repeats it over a new
 * connection when the broker went away meanwhile, within the deadline.
 */
#include "clients/c/call.h"

#include <stdio.h>
#include <string.h>

#include "clients/c/fault.h"
#include "clients/c/handle.h"
#include "proto/message.h"

enum {
	CALL_TIMEOUT_MS = 10000,
	CALL_UPSTREAM_TIMEOUT_MS = 30000,
	CALL_GRACE_MS = 1000,	    /* the broker's own time-out comes first, since it says why */
	CALL_MOST_WAIT_MS = 600000, /* that a request may ask for */
	CALL_RETURN_MS = 5000,	    /* a broker that went away is given this long to come back */
	CALL_SERVED_MS = 1000,	    /* a connection that lived longer was served */
	CALL_PAUSE_MS = 10,
	CALL_MOST_PAUSE_MS = 200,
};

/* One call while it is tried. */
struct call_attempt {
	const struct call *call;
	int64_t deadline_ms;
	int64_t upstream_until_ms;
	int64_t lost_at_ms; /* when the connection went away first; 0: not yet */
	int64_t began_ms;   /* this attempt */
	int64_t pause_ms;
	bool sent; /* by the last attempt: it may have been done */
};

static bool call_param_present(const struct call_param *p)
{
	return p->type == CALL_BOOL || p->type == CALL_INTS ||
	       (p->type == CALL_TEXT ? p->text != NULL : p->number >= 0);
}

static int call_pack_ints(struct buf *b, const int64_t *numbers, size_t n)
{
	int r = pack_array(b, n);

	for (size_t i = 0; r >= 0 && i < n; i++)
		r = pack_int(b, numbers[i]);
	return r;
}

static int call_pack_param(struct buf *b, const struct call_param *p)
{
	int r = pack_text(b, p->name);

	if (r < 0)
		return r;
	switch (p->type) {
	case CALL_TEXT:
		/* as it is: what is not UTF-8 is refused, and not taken for something else */
		return p->text ? pack_text_n(b, p->text, strlen(p->text)) : pack_nil(b);
	case CALL_INT:
		return pack_int(b, p->number);
	case CALL_BOOL:
		return pack_bool(b, p->number != 0);
	case CALL_INTS:
		return call_pack_ints(b, p->numbers, (size_t)p->number);
	case CALL_FD:
		return pack_bool(b, true);
	}
	return 0;
}

static int call_pack(struct buf *b, uint32_t id, const struct call_attempt *a)
{
	int64_t wait = MAX_OF(a->upstream_until_ms - wire_now_ms(), 1);
	const struct call_param timeout =
		CALL_PARAM_INT("timeout_ms", MIN_OF(wait, CALL_MOST_WAIT_MS));
	size_t n = a->call->upstream;
	int r = pack_request(b, id, a->call->method);

	for (size_t i = 0; i < a->call->n_params; i++)
		n += call_param_present(&a->call->params[i]);
	if (r >= 0)
		r = pack_map(b, n);
	for (size_t i = 0; r >= 0 && i < a->call->n_params; i++)
		if (call_param_present(&a->call->params[i]))
			r = call_pack_param(b, &a->call->params[i]);
	if (r >= 0 && a->call->upstream)
		r = call_pack_param(b, &timeout);
	return r;
}

/* The descriptor that goes with the request; -1: none. */
static int call_fd(const struct call *call)
{
	for (size_t i = 0; i < call->n_params; i++)
		if (call->params[i].type == CALL_FD)
			return (int)call->params[i].number;
	return -1;
}

static enum keybroker_code call_send(struct keybroker *k, uint32_t id, const struct call_attempt *a,
				     struct keybroker_error *e)
{
	struct buf b = BUF_INIT(message_request_limits.bytes);
	int r = call_pack(&b, id, a);
	enum keybroker_code code =
		r < 0 ? fault_pack(e, r)
		      : wire_send(&k->wire, &b, call_fd(a->call), a->deadline_ms, e);

	buf_deinit(&b);
	return code;
}

/* The broker's own words, under the advice for their code. */
static enum keybroker_code call_refused(const struct value *error, struct keybroker_error *e)
{
	const char *text = value_text(value_get(error, "message"));
	const char *name = value_text(value_get(error, "code"));
	int64_t after = -1;

	enum keybroker_code code = fault_set(e, fault_code_from_name(name), "%s",
					     text && *text ? text
					     : name	   ? name
							   : "no reason given");
	if (e && value_int(value_get(error, "retry_after_ms"), &after))
		e->retry_after_ms = after;
	return code;
}

static enum keybroker_code call_once(struct keybroker *k, struct call_attempt *a,
				     struct message **ret, struct keybroker_error *e)
{
	_cleanup_(message_freep) struct message *m = NULL;
	uint32_t id = ++k->last_id;

	a->sent = false;
	enum keybroker_code code = handle_connect(k, a->deadline_ms, e);
	if (code == KEYBROKER_OK)
		code = call_send(k, id, a, e);
	if (code == KEYBROKER_OK) {
		a->sent = true;
		code = wire_receive(&k->wire, id, a->deadline_ms, &m, e);
		k->answered = k->answered || code == KEYBROKER_OK;
	}
	/* a late reply must not be taken for that of the next call */
	if (code != KEYBROKER_OK)
		wire_close(&k->wire);
	if (code == KEYBROKER_OK && message_error(m))
		code = call_refused(message_error(m), e);
	if (code == KEYBROKER_OK)
		*ret = TAKE(m);
	return code;
}

/* Whether the outcome is one that another attempt may change, and the call allows one. */
static bool call_may_repeat(struct call_attempt *a, enum keybroker_code code)
{
	int64_t now = wire_now_ms();
	bool away = code == KEYBROKER_LOST || code == KEYBROKER_NOT_LEADER;

	if (away && a->sent && a->call->once)
		return false;
	/* a connection that lived for a while was a broker's: its end starts the time again */
	if (away && (a->lost_at_ms == 0 || now - a->began_ms > CALL_SERVED_MS))
		a->lost_at_ms = now;
	/* what is away, or hangs up on everyone, is worth waiting for if there was a broker a
	 * moment ago */
	if (away || code == KEYBROKER_UNREACHABLE)
		away = a->lost_at_ms != 0 && now - a->lost_at_ms < CALL_RETURN_MS;
	return away && now < a->deadline_ms;
}

static void call_wait(struct call_attempt *a, const struct keybroker_error *e)
{
	wire_pause(MAX_OF(a->pause_ms, e->retry_after_ms), a->deadline_ms);
	a->pause_ms = MIN_OF(a->pause_ms * 2, CALL_MOST_PAUSE_MS);
}

/* A broker that hangs up without a word may have more connections of this uid than it answers. */
static void call_advise(const struct keybroker *k, struct keybroker_error *e)
{
	size_t n = strlen(e->advice);

	if (e->code == KEYBROKER_LOST && !k->answered)
		(void)snprintf(
			e->advice + n, sizeof(e->advice) - n,
			" If it happens again, this uid may have too many connections open.");
}

enum keybroker_code keybroker_call(struct keybroker *k, const struct call *call,
				   struct message **ret, struct keybroker_error *ret_error)
{
	int64_t timeout = call->upstream ? CALL_UPSTREAM_TIMEOUT_MS : CALL_TIMEOUT_MS;
	int64_t until = wire_now_ms() + (k->timeout_ms > 0 ? k->timeout_ms : timeout);
	struct call_attempt a = { .call = call,
				  .deadline_ms = until + (call->upstream ? CALL_GRACE_MS : 0),
				  .upstream_until_ms = until,
				  .lost_at_ms = k->lost_at_ms,
				  .pause_ms = CALL_PAUSE_MS };
	struct keybroker_error error = { 0 };
	enum keybroker_code code;

	k->repeated = false;
	k->lost_at_ms = 0;
	for (;;) {
		a.began_ms = wire_now_ms();
		code = call_once(k, &a, ret, &error);
		if (code == KEYBROKER_OK || !call_may_repeat(&a, code))
			break;
		k->repeated = k->repeated || a.sent;
		/* the instance that gave up its lead doesn't serve this connection again */
		wire_close(&k->wire);
		call_wait(&a, &error);
	}
	call_advise(k, &error);
	if (code != KEYBROKER_OK && ret_error)
		*ret_error = error;
	return code;
}

int keybroker_fd(const struct keybroker *k)
{
	return k->wire.fd;
}

enum keybroker_code keybroker_next(struct keybroker *k, int64_t wait_ms, struct message **ret,
				   struct keybroker_error *ret_error)
{
	_cleanup_(message_freep) struct message *m = NULL;
	int64_t deadline = wait_ms < 0 ? INT64_MAX : wire_now_ms() + wait_ms;
	enum keybroker_code code = wire_next(&k->wire, deadline, &m, ret_error);

	if (code == KEYBROKER_TIMEOUT)
		return code;
	if (code == KEYBROKER_OK && message_type(m) != MESSAGE_NOTIFICATION)
		code = fault_set(ret_error, KEYBROKER_GARBAGE,
				 "what the server sent is not a notification");
	if (code != KEYBROKER_OK) {
		wire_close(&k->wire);
		k->lost_at_ms = code == KEYBROKER_LOST ? wire_now_ms() : 0;
		return code;
	}
	*ret = TAKE(m);
	return KEYBROKER_OK;
}

enum keybroker_code keybroker_listen(struct keybroker *k, const char *method, struct message **ret,
				     struct keybroker_error *ret_error)
{
	for (;;) {
		_cleanup_(message_freep) struct message *m = NULL;
		enum keybroker_code code = keybroker_next(k, -1, &m, ret_error);

		if (code != KEYBROKER_OK)
			return code;
		if (strcmp(message_method(m), method) != 0)
			continue;
		*ret = TAKE(m);
		return KEYBROKER_OK;
	}
}
