/*
 * A connection from accept to its end: where it waits, what is sent, when it closes. It belongs to
 * its conn_set and is freed by conn_settle() alone, once it is closed and its last request has
 * ended. Reading is in conn_input.c.
 */
#include "daemon/conn.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fd.h"
#include "daemon/account.h"
#include "daemon/conn_set.h"
#include "daemon/conn_ties.h"

static const struct conn_refusal conn_too_many = { PROTO_LIMIT_EXCEEDED,
						   "this uid has too many connections" };
static const struct conn_refusal conn_no_share = {
	PROTO_LIMIT_EXCEEDED, "this uid has its share of the descriptors that the broker may open"
};
static const struct conn_refusal conn_no_admin = {
	PROTO_DENIED, "the admin socket serves root and the daemon's own user"
};

/* --- where connections wait --- */

static struct conn_list *conn_list_of(struct conn *c, enum conn_place place)
{
	return place == CONN_PACED ? &c->account->paced : &c->set->places[place];
}

static void conn_leave(struct conn *c)
{
	TAILQ_REMOVE(conn_list_of(c, c->place), c, of_place);
	if (c->place == CONN_QUEUED) {
		c->set->n_queued--;
		c->account->queued--;
	}
	if (c->place == CONN_PACED && TAILQ_EMPTY(&c->account->paced))
		TAILQ_REMOVE(&c->set->paced, c->account, of_paced);
}

/* A uid with nothing else in the queue does not stand behind the thousand connections of another,
 * unless it was served in this turn. */
static bool conn_goes_first(const struct conn *c, enum conn_place place)
{
	return place == CONN_QUEUED && c->account->queued == 0 &&
	       (c->turn != c->set->turn || c->taken == 0);
}

static void conn_enter(struct conn *c, enum conn_place place)
{
	struct conn_set *s = c->set;

	if (place == CONN_PACED && TAILQ_EMPTY(&c->account->paced))
		TAILQ_INSERT_TAIL(&s->paced, c->account, of_paced);
	if (conn_goes_first(c, place))
		TAILQ_INSERT_HEAD(conn_list_of(c, place), c, of_place);
	else
		TAILQ_INSERT_TAIL(conn_list_of(c, place), c, of_place);
	if (place == CONN_QUEUED) {
		s->n_queued++;
		c->account->queued++;
	}
	if (place == CONN_PACED)
		conn_set_arm_pace(s);
}

void conn_move(struct conn *c, enum conn_place place)
{
	if (c->place == place)
		return;
	conn_leave(c);
	conn_enter(c, place);
	if (c->place == CONN_READING)
		(void)event_del(&c->read); /* fails for events never assigned only */
	c->place = place;
	conn_watch_ties(c);
	/* a connection that cannot be watched would never wake again */
	if (place == CONN_READING && event_add(&c->read, NULL) < 0)
		conn_close(c);
}

/* The admin socket has few users, and is there for when others are too many. */
static int64_t conn_rate(const struct conn *c)
{
	return c->admin ? 0 : c->set->limits.requests_per_second;
}

bool conn_has_turn(const struct conn *c)
{
	int64_t rate = conn_rate(c);

	return rate == 0 || account_request_wait(c->account, rate, clock_now().boot_ms) == 0;
}

void conn_count_request(struct conn *c)
{
	int64_t rate = conn_rate(c);

	if (rate > 0)
		account_take_request(c->account, rate, clock_now().boot_ms);
}

/* A request that has begun may be read to its end even so: that is what frees its bytes. */
bool conn_has_room_to_read(const struct conn *c)
{
	return c->in.len > 0 || c->account->buffered <= c->set->limits.buffered_bytes;
}

static enum conn_place conn_next_place(const struct conn *c)
{
	if (c->state != CONN_OPEN || c->set->stopped)
		return CONN_IDLE;
	if (c->out.len > CONN_UNSENT)
		return CONN_STUCK;
	if (!conn_has_room_to_read(c))
		return CONN_HELD;
	if (c->more && !conn_has_turn(c))
		return CONN_PACED;
	return c->more ? CONN_QUEUED : CONN_READING;
}

/* Brings the account up to date with what this connection has buffered, and holds open. */
void conn_charge(struct conn *c)
{
	int64_t bytes = (int64_t)(c->in.len + c->out.len);
	int held = (c->fd >= 0) + (c->pidfd >= 0) + (c->passed >= 0);

	c->set->eased |= bytes < c->charged;
	c->account->buffered += bytes - c->charged;
	c->charged = bytes;
	account_hold(c->set->accounts, c->account, held - c->held);
	c->held = held;
}

void conn_pass(struct conn *c, int fd)
{
	fd_close(&c->passed);
	c->passed = fd;
	conn_charge(c);
	if (account_may_hold(c->set->accounts, c->account, 0))
		return;
	fd_close(&c->passed);
	if (!c->refusal)
		c->refusal = &conn_no_share;
}

static bool conn_owes(const struct conn *c)
{
	if (c->state == CONN_GONE)
		return false;
	return !c->completed || (c->in.len > 0 && !c->more) || (c->out.len > 0 && !c->subscriber);
}

/* Peers that owe us something are watched for time; progress starts the time again. */
static void conn_watch(struct conn *c)
{
	bool owes = conn_owes(c);

	if (c->owing && (!owes || c->progressed)) {
		TAILQ_REMOVE(&c->set->owing, c, of_owing);
		c->owing = false;
	}
	if (owes && !c->owing) {
		c->since_ms = conn_set_now_ms();
		TAILQ_INSERT_TAIL(&c->set->owing, c, of_owing);
		c->owing = true;
		conn_set_arm_reap(c->set);
	}
	c->progressed = false;
}

/* --- closing --- */

/* Closes at once. The requests that wait hear of it in conn_tell(), from the loop. */
void conn_close(struct conn *c)
{
	if (c->state == CONN_GONE)
		return;
	c->state = CONN_GONE;
	(void)event_del(&c->write); /* as in conn_move() */
	if (event_initialized(&c->process))
		(void)event_del(&c->process);
	conn_move(c, CONN_UNTOLD);
	event_active(&c->set->work, 0, 0);
	fd_close(&c->fd);
	fd_close(&c->passed);
	buf_deinit(&c->in);
	buf_deinit(&c->out);
	conn_charge(c);
	c->account->connections--;
	c->set->n_open--;
}

static void conn_free(struct conn *c)
{
	assert(c->state == CONN_GONE && TAILQ_EMPTY(&c->requests) && TAILQ_EMPTY(&c->ties));
	conn_watch(c);
	conn_leave(c);
	TAILQ_REMOVE(&c->set->all, c, of_all);
	fd_close(&c->pidfd);
	conn_charge(c);
	account_put(c->set->accounts, c->account);
	account_put(c->set->accounts, c->owner);
	free(c);
}

/* Decides where the connection waits next. May free it: return at once. */
void conn_settle(struct conn *c)
{
	if (c->busy)
		return;
	conn_charge(c);
	if (c->state == CONN_DRAINING && TAILQ_EMPTY(&c->requests) && c->out.len == 0)
		conn_close(c);
	if (c->state == CONN_GONE && TAILQ_EMPTY(&c->requests) && TAILQ_EMPTY(&c->ties)) {
		conn_free(c);
		return;
	}
	if (c->state != CONN_GONE)
		conn_move(c, conn_next_place(c));
	conn_watch(c);
}

/* Tells whoever waits for upstream that nobody waits for them; they free their requests. What was
 * tied to the connection ends with it. */
void conn_tell(struct conn *c)
{
	void (*gone)(struct request *);
	struct request *r;

	if (c->state == CONN_GONE)
		conn_move(c, CONN_IDLE);
	conn_end_ties(c);
	for (;;) {
		TAILQ_FOREACH (r, &c->requests, of_conn)
			if (r->gone)
				break;
		if (!r)
			return;
		gone = r->gone;
		r->gone = NULL;
		gone(r);
	}
}

/* No more is read; what was asked is still answered, unless it waits for upstream. */
void conn_drain(struct conn *c)
{
	if (c->state != CONN_OPEN)
		return;
	c->state = CONN_DRAINING;
	c->more = false;
	buf_deinit(&c->in);
}

/* --- sending --- */

/* What the socket takes of `n` bytes; -errno when the peer is gone. */
static ssize_t conn_send_now(const struct conn *c, const void *data, size_t n)
{
	ssize_t sent = send(c->fd, data, n, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (sent >= 0)
		return sent;
	return errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

/* Keeps what was not sent. A uid whose peers don't take their replies loses the connection. */
static void conn_keep_unsent(struct conn *c, const uint8_t *data, size_t n)
{
	if (buf_append(&c->out, data, n) < 0 || event_add(&c->write, NULL) < 0) {
		conn_close(c);
		return;
	}
	conn_charge(c);
	if (c->account->buffered > c->set->limits.buffered_bytes)
		conn_close(c);
}

void conn_send(struct conn *c, const struct buf *reply)
{
	ssize_t sent = 0;

	if (c->state == CONN_GONE)
		return;
	if (c->out.len == 0)
		sent = conn_send_now(c, reply->data, reply->len);
	if (sent < 0)
		conn_close(c);
	else if ((size_t)sent < reply->len)
		conn_keep_unsent(c, reply->data + sent, reply->len - (size_t)sent);
}

size_t conn_room(const struct conn *c)
{
	int64_t room = c->set->limits.buffered_bytes - c->account->buffered;

	return c->state == CONN_OPEN && c->out.len == 0 && room > 0 ? (size_t)room : 0;
}

void conn_push(struct conn *c)
{
	ssize_t sent = conn_send_now(c, c->out.data, c->out.len);

	if (sent < 0) {
		conn_close(c);
		return;
	}
	buf_consume(&c->out, (size_t)sent);
	c->progressed |= sent > 0;
	if (c->out.len == 0) {
		(void)event_del(&c->write); /* as in conn_move() */
		buf_deinit(&c->out);
	}
}

/* May free the connection: return at once. */
static void conn_flush(struct conn *c)
{
	conn_push(c);
	conn_settle(c);
}

/* --- events --- */

static void conn_on_read(evutil_socket_t fd _unused_, short what _unused_, void *userdata)
{
	conn_run(userdata);
}

static void conn_on_write(evutil_socket_t fd _unused_, short what _unused_, void *userdata)
{
	conn_flush(userdata);
}

static int64_t conn_limit(const struct conn *c)
{
	const struct conn_set *s = c->set;

	return s->limits.connections_of && !c->admin
		       ? s->limits.connections_of(s->userdata, &c->peer)
		       : s->limits.connections;
}

/* Its connection and its process are a descriptor each. */
static const struct conn_refusal *conn_refusal_for(const struct conn *c)
{
	if (c->admin && c->peer.uid != 0 && c->peer.uid != geteuid())
		return &conn_no_admin;
	if (c->account->connections > conn_limit(c))
		return &conn_too_many;
	return account_may_hold(c->set->accounts, c->account, 2) ? NULL : &conn_no_share;
}

/* A polite refusal costs a descriptor until its first request: those are limited too. */
static bool conn_is_far_over(const struct conn *c)
{
	return c->account->connections > 2 * MAX_OF(conn_limit(c), INT64_C(1)) ||
	       (c->refusal == &conn_no_share &&
		!account_may_hold(c->set->accounts, c->account, -c->account->descriptors / 4));
}

void conn_add(struct conn_set *s, const struct peer *peer, int fd, int pidfd, bool admin)
{
	struct conn *c = xcalloc(1, sizeof(*c));

	c->set = s;
	c->owner = account_get(s->accounts, peer->uid, peer->listen);
	c->account = admin ? account_get_admin(s->accounts, peer->uid)
			   : account_get(s->accounts, peer->uid, peer->listen);
	c->peer = *peer;
	c->fd = fd;
	c->pidfd = pidfd;
	c->passed = -1;
	c->admin = admin;
	c->unproven = !peer->pinned && !peer->ended;
	TAILQ_INIT(&c->requests);
	TAILQ_INIT(&c->ties);
	/* these fail for a base that is NULL only */
	(void)event_assign(&c->read, s->base, fd, EV_READ | EV_PERSIST, conn_on_read, c);
	(void)event_assign(&c->write, s->base, fd, EV_WRITE | EV_PERSIST, conn_on_write, c);
	TAILQ_INSERT_TAIL(&s->all, c, of_all);
	TAILQ_INSERT_TAIL(&s->places[CONN_IDLE], c, of_place);
	s->n_open++;
	c->account->connections++;
	c->refusal = conn_refusal_for(c);
	if (c->refusal)
		fd_close(&c->pidfd);
	conn_charge(c);
	if (c->refusal && conn_is_far_over(c))
		conn_close(c);
	conn_settle(c);
}

void conn_request_ended(struct conn *c)
{
	c->set->eased = true;
	conn_settle(c);
}
