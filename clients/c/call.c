/*
 * One call: packs the request, and waits for its reply. And listening to what the broker tells
 * without being asked, for the command line tool.
 */
#include "clients/c/call.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "clients/c/exchange.h"
#include "clients/c/fault.h"
#include "clients/c/handle.h"
#include "proto/message.h"

enum { CALL_TIMEOUT_MS = 10000, CALL_UPSTREAM_TIMEOUT_MS = 30000 };

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

int call_pack(struct buf *b, uint32_t id, const struct call *call, int64_t wait_ms)
{
	const struct call_param timeout = CALL_PARAM_INT("timeout_ms", wait_ms);
	size_t n = call->upstream;
	int r = pack_request(b, id, call->method);

	for (size_t i = 0; i < call->n_params; i++)
		n += call_param_present(&call->params[i]);
	if (r >= 0)
		r = pack_map(b, n);
	for (size_t i = 0; r >= 0 && i < call->n_params; i++)
		if (call_param_present(&call->params[i]))
			r = call_pack_param(b, &call->params[i]);
	if (r >= 0 && call->upstream)
		r = call_pack_param(b, &timeout);
	return r >= 0 && b->len > message_request_limits.bytes ? -ENOBUFS : r;
}

int call_passed_fd(const struct call *call)
{
	for (size_t i = 0; i < call->n_params; i++)
		if (call->params[i].type == CALL_FD)
			return (int)call->params[i].number;
	return -1;
}

int call_draw_id(char ret[CALL_ID_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	uint8_t bytes[CALL_ID_SIZE / 2];

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		return -EIO;
	for (size_t i = 0; i < sizeof(bytes); i++) {
		ret[2 * i] = digits[bytes[i] >> 4];
		ret[2 * i + 1] = digits[bytes[i] & 0xf];
	}
	ret[2 * sizeof(bytes)] = '\0';
	return 0;
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

static void call_wait(struct keybroker *k, const struct exchange *x)
{
	exchange_hurry(k);
	while (!x->done)
		if (!exchange_step(k))
			exchange_wait(k, INT64_MAX); /* its own deadline ends it */
}

enum keybroker_code call_run(struct keybroker *k, const struct call *call, struct message **ret,
			     bool *ret_repeated, struct keybroker_error *ret_error)
{
	int64_t timeout = call->upstream ? CALL_UPSTREAM_TIMEOUT_MS : CALL_TIMEOUT_MS;
	struct exchange x = { .call = call };
	enum keybroker_code code = KEYBROKER_OK;

	handle_lock(k);
	x.patience_ms = k->timeout_ms > 0 ? k->timeout_ms : timeout;
	exchange_begin(k, &x);
	call_wait(k, &x);
	if (!x.reply) {
		call_advise(k, &x.error);
		code = handle_report(k, &x.error, ret_error);
	}
	handle_unlock(k);
	if (ret_repeated)
		*ret_repeated = x.repeated;
	if (code == KEYBROKER_OK)
		*ret = x.reply;
	return code;
}

enum keybroker_code keybroker_call(struct keybroker *k, const struct call *call,
				   struct message **ret, struct keybroker_error *ret_error)
{
	return call_run(k, call, ret, NULL, ret_error);
}

int keybroker_socket_fd(struct keybroker *k)
{
	handle_lock(k);
	int fd = k->wire.fd;
	handle_unlock(k);
	return fd;
}

enum keybroker_code keybroker_next(struct keybroker *k, int64_t wait_ms, struct message **ret,
				   struct keybroker_error *ret_error)
{
	int64_t deadline = wait_ms < 0 ? INT64_MAX : wire_now_ms() + wait_ms;
	struct keybroker_error e = { .code = KEYBROKER_OK };

	handle_lock(k);
	k->listening = true;
	while (!k->heard && e.code == KEYBROKER_OK) {
		if (k->wire.fd < 0)
			e = k->failure;
		else if (exchange_step(k))
			continue;
		else if (wire_now_ms() >= deadline)
			(void)fault_set(&e, KEYBROKER_TIMEOUT, "the broker has told nothing");
		else
			exchange_wait(k, deadline);
	}
	k->listening = false;
	if (k->heard)
		*ret = TAKE(k->heard);
	else
		(void)handle_report(k, &e, ret_error);
	handle_unlock(k);
	return e.code;
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
