/*
 * Requests and their replies. A reply is packed into the request's own wiping buffer, so that
 * handlers may pack many before a turn's commit lets them go.
 */
#include "daemon/request.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/utf8.h"
#include "daemon/account.h"
#include "daemon/conn.h"
#include "daemon/conn_set.h"
#include "daemon/conn_ties.h"
#include "io/process.h"

#define REQUEST_ERROR_MAX 512

struct request *request_new(struct conn *c, struct message *m)
{
	struct request *r = xcalloc(1, sizeof(*r));

	r->conn = c;
	r->id = message_id(m);
	r->message = m;
	r->admin = c->admin && !c->refusal;
	r->refused = c->refusal ? c->refusal->text : NULL;
	r->reply = BUF_INIT(message_reply_limits.bytes);
	TAILQ_INSERT_TAIL(&c->requests, r, of_conn);
	c->account->waiting++;
	return r;
}

const struct value *request_params(const struct request *r)
{
	return message_params(r->message);
}

const struct peer *request_peer(const struct request *r)
{
	return &r->conn->peer;
}

int request_pidfd(const struct request *r)
{
	return r->conn->pidfd;
}

const char *request_doubt(const struct request *r)
{
	const struct conn *c = r->conn;

	if (c->peer.ended || (c->pidfd >= 0 && process_ended(c->pidfd)))
		return "the process that connected has ended";
	if (c->stranger)
		return "another process than the one that connected";
	return NULL;
}

int request_take_passed(struct request *r)
{
	return take_fd(&r->conn->passed);
}

struct account *request_account(const struct request *r)
{
	return r->conn->owner;
}

bool request_alive(const struct request *r)
{
	return r->conn->state != CONN_GONE;
}

struct buf *request_reply(struct request *r)
{
	buf_deinit(&r->reply);
	/* nothing but a lack of memory stops these few bytes, and that ends the daemon anywhere */
	if (pack_result(&r->reply, r->id) < 0)
		abort();
	return &r->reply;
}

void request_send(struct request *r, int packed)
{
	if (packed < 0) {
		log_error("a reply to %s could not be packed: it is too large or memory is gone",
			  message_method(r->message));
		request_fail(r, PROTO_INTERNAL, -1, "the reply could not be made");
		return;
	}
	conn_send(r->conn, &r->reply);
	request_free(r);
}

void request_fail(struct request *r, enum proto_error code, int64_t retry_after_ms, const char *fmt,
		  ...)
{
	char text[REQUEST_ERROR_MAX];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap); /* what does not fit is cut */
	va_end(ap);
	utf8_clean(text); /* strict clients refuse half a character */
	buf_deinit(&r->reply);
	if (pack_error(&r->reply, r->id, proto_error_name(code), text, retry_after_ms) == 0)
		conn_send(r->conn, &r->reply);
	else
		log_error("no memory for an error reply");
	request_free(r);
}

bool request_subscribe(struct request *r)
{
	if (r->conn->subscriber)
		return false;
	r->conn->subscriber = r;
	conn_watch_process(r->conn);
	return true;
}

void request_answer(struct request *r)
{
	r->answered = true;
	r->conn->account->waiting--;
	r->conn->set->eased = true;
	request_notify(r, &r->reply);
	buf_deinit(&r->reply);
}

size_t request_room(const struct request *r)
{
	return conn_room(r->conn);
}

void request_notify(struct request *r, const struct buf *messages)
{
	conn_send(r->conn, messages);
	conn_settle(r->conn); /* frees no connection that has a request */
}

void request_hang_up(struct request *r)
{
	conn_close(r->conn);
}

void request_free(struct request *r)
{
	struct conn *c;

	if (!r)
		return;
	c = r->conn;
	if (c->subscriber == r)
		c->subscriber = NULL;
	TAILQ_REMOVE(&c->requests, r, of_conn);
	c->account->waiting -= !r->answered;
	message_free(r->message);
	buf_deinit(&r->reply);
	free(r);
	conn_request_ended(c);
}
