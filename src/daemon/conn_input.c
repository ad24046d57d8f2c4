/*
 * What a connection does with bytes: received into the set's scratch, whole messages from there to
 * the handler, the rest into the connection's own buffer. Handlers are called from here only, from
 * the loop; their replies may close the connection meanwhile, but never free it.
 */
#include "daemon/conn.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "base/fd.h"
#include "daemon/account.h"
#include "daemon/conn_set.h"
#include "io/receive.h"

/* Who is over a limit may ask again after this. */
#define CONN_RETRY_MS 1000

static void conn_answer_error(struct conn *c, int64_t id, enum proto_error code, const char *text)
{
	_cleanup_(buf_deinit) struct buf b = BUF_INIT(0);
	int64_t retry_ms = code == PROTO_LIMIT_EXCEEDED ? CONN_RETRY_MS : -1;

	if (pack_error(&b, (uint32_t)id, proto_error_name(code), text, retry_ms) < 0)
		conn_close(c);
	else
		conn_send(c, &b);
}

static void conn_reject(struct conn *c, int64_t id, const char *text)
{
	if (id >= 0)
		conn_answer_error(c, id, PROTO_INVALID_REQUEST, text);
	conn_drain(c);
}

/* One whole, walked message. `id` < 0: a notification or a stray reply, which are ignored. */
static void conn_take_message(struct conn *c, int64_t id, const uint8_t *data, size_t n)
{
	struct message *m = NULL;
	int r;

	conn_count_request(c);
	if (id < 0)
		return;
	c->completed = c->progressed = true;
	c->set->turn_left--;
	c->taken++;
	if (c->refusal && c->refusal->code != PROTO_DENIED) {
		conn_answer_error(c, id, c->refusal->code, c->refusal->text);
		conn_drain(c);
		return;
	}
	if (c->account->waiting >= c->set->limits.waiting) {
		conn_answer_error(c, id, PROTO_LIMIT_EXCEEDED,
				  "this uid has too many requests under way");
		return;
	}
	r = message_read(&m, data, n);
	if (r == -ENOMEM)
		conn_answer_error(c, id, PROTO_INTERNAL, "out of memory");
	else if (r < 0)
		conn_answer_error(c, id, PROTO_INVALID_REQUEST, "the message cannot be read");
	else
		c->set->handle(c->set->userdata, request_new(c, m));
	if (c->refusal) /* a denial, which is on record before it is answered */
		conn_drain(c);
}

static bool conn_may_take(struct conn *c)
{
	const struct conn_set *s = c->set;

	if (c->turn != s->turn) {
		c->turn = s->turn;
		c->taken = 0;
	}
	return c->state == CONN_OPEN && !s->stopped && s->turn_left > 0 &&
	       c->taken < SERVER_CONN_REQUESTS && c->out.len <= CONN_UNSENT && conn_has_turn(c);
}

/* Takes whole requests from the front of `data`; what it says was used must not be kept. */
static size_t conn_take(struct conn *c, const uint8_t *data, size_t n)
{
	size_t used = 0, len = 0;
	int64_t id = -1;

	while (used < n && conn_may_take(c)) {
		switch (message_walk(data + used, n - used, &message_request_limits, &len, &id)) {
		case MESSAGE_COMPLETE:
			used += len;
			conn_take_message(c, id, data + used - len, len);
			break;
		case MESSAGE_INCOMPLETE:
			c->more = false;
			return used;
		case MESSAGE_MALFORMED:
			conn_reject(c, id, "not a request of the protocol");
			return n;
		case MESSAGE_TOO_LARGE:
			conn_reject(c, id, "a request has at most 16 KiB, depth 6 and 256 values");
			return n;
		}
	}
	c->more = used < n;
	return used;
}

/* Keeps bytes for later; nothing is kept of a connection that ended meanwhile. */
static void conn_keep(struct conn *c, const uint8_t *data, size_t n)
{
	if (c->state == CONN_OPEN && n > 0 && buf_append(&c->in, data, n) < 0)
		conn_close(c);
}

/* The bytes are held here meanwhile: a handler's reply may close the connection, which frees its
 * own. */
static void conn_take_kept(struct conn *c)
{
	_cleanup_(buf_deinit) struct buf kept = c->in;
	size_t used;

	c->in = BUF_INIT(0);
	used = conn_take(c, kept.data, kept.len);
	buf_consume(&kept, used);
	if (c->state == CONN_OPEN && kept.len > 0) {
		c->in = kept;
		kept = BUF_INIT(0);
	}
}

static void conn_take_received(struct conn *c, size_t n)
{
	const uint8_t *data = c->set->scratch;
	size_t used;

	if (c->in.len > 0) {
		conn_keep(c, data, n);
		conn_take_kept(c);
		return;
	}
	used = conn_take(c, data, n);
	conn_keep(c, data + used, n - used);
}

/* The peer sends no more. If it closed both ways it is gone; else it still reads its replies. */
static void conn_end_of_input(struct conn *c)
{
	struct pollfd p = { .fd = c->fd };

	if (poll(&p, 1, 0) == 1 && p.revents & (POLLHUP | POLLERR))
		conn_close(c);
	else
		conn_drain(c);
}

static void conn_receive(struct conn *c)
{
	struct received with;
	ssize_t n = receive(c->fd, c->set->scratch, sizeof(c->set->scratch), &with);
	int taken = c->taken;

	if (n > 0 && c->unproven) {
		c->unproven = false;
		c->stranger = with.sender != c->peer.pid;
	}

	if (with.fd >= 0)
		conn_pass(c, with.fd);
	if (n > 0) {
		conn_take_received(c, (size_t)n);
		if (c->taken == taken) /* a byte at a time costs us as much as a request */
			conn_count_request(c);
		explicit_bzero(c->set->scratch, (size_t)n);
	} else if (n == 0) {
		conn_end_of_input(c);
	} else if (errno != EAGAIN && errno != EINTR) {
		conn_close(c);
	}
	if (c->in.len == 0) /* no request is left that it could be for */
		fd_close(&c->passed);
	conn_charge(c);
	/* half a request is not worth more than the uid may have buffered */
	if (c->in.len > 0 && !c->more && c->account->buffered > c->set->limits.buffered_bytes)
		conn_close(c);
}

/* Goes on with what is here, then with what is in the socket. May free the connection: return at
 * once. */
void conn_run(struct conn *c)
{
	bool kept = c->more && c->in.len > 0;

	c->busy = true;
	if (kept)
		conn_take_kept(c);
	if (!kept || !c->more)
		c->more = !conn_may_take(c);
	if (!c->more && conn_has_room_to_read(c))
		conn_receive(c);
	if (c->state != CONN_OPEN)
		conn_tell(c);
	c->busy = false;
	conn_settle(c);
}
