/* The one connection: requests out, replies to who asked, and what becomes of them when it ends. */
#include "clients/c/exchange.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/utf8.h"
#include "clients/c/credential.h"
#include "clients/c/fault.h"
#include "clients/c/handle.h"
#include "clients/c/loop.h"
#include "proto/message.h"

enum {
	EXCHANGE_GRACE_MS = 1000,	/* the broker's own time-out comes first: it says why */
	EXCHANGE_MOST_WAIT_MS = 600000, /* that a request may ask for */
	EXCHANGE_RETURN_MS = 5000, /* a broker that went away is given this long to come back */
	EXCHANGE_SERVED_MS = 1000, /* a connection that lived longer was served */
	EXCHANGE_PAUSE_MS = 50,
	EXCHANGE_MOST_PAUSE_MS = 5000,
	EXCHANGE_WAITING_PAUSE_MS = 200, /* at most, while somebody waits */
	EXCHANGE_LOOK_MS = 1000,
	EXCHANGE_MOST_RETRY_MS = 24 * 3600 * 1000, /* whatever a server says */
	EXCHANGE_BACKLOG_MS = 10,		   /* a full backlog cannot be polled for room */
};

int64_t exchange_jitter(int64_t ms)
{
	uint32_t drawn = 0;

	(void)getrandom(&drawn, sizeof(drawn), GRND_NONBLOCK); /* 0 will do */
	return ms - (int64_t)(drawn % ((uint64_t)ms / 2 + 1));
}

/* --- beginning and ending --- */

void exchange_begin(struct keybroker *k, struct exchange *x)
{
	struct exchange **at = &k->exchanges;

	while (*at)
		at = &(*at)->next;
	*at = x;
	x->next = NULL;
	x->id = ++k->last_id;
	x->sent = x->repeated = x->done = false;
	x->reply = NULL;
	/* what nobody waits for has all the time until it can be sent */
	x->deadline_ms = x->ended ? INT64_MAX : wire_now_ms() + x->patience_ms;
}

static bool exchange_remove(struct keybroker *k, struct exchange *x)
{
	struct exchange **at = &k->exchanges;

	while (*at && *at != x)
		at = &(*at)->next;
	if (!*at)
		return false;
	*at = x->next;
	return true;
}

void exchange_cancel(struct keybroker *k, struct exchange *x)
{
	(void)exchange_remove(k, x); /* it may have ended */
}

/* `x->error` has been set unless it went well. */
static void exchange_end(struct keybroker *k, struct exchange *x)
{
	(void)exchange_remove(k, x);
	x->done = true;
	(void)pthread_cond_broadcast(&k->moved);
	if (x->ended)
		x->ended(k, x);
}

static void exchange_fail(struct keybroker *k, struct exchange *x, const struct keybroker_error *e)
{
	x->error = *e;
	exchange_end(k, x);
}

static struct exchange *exchange_find(const struct keybroker *k, uint32_t id)
{
	struct exchange *x = k->exchanges;

	while (x && (!x->sent || x->id != id))
		x = x->next;
	return x;
}

void exchange_drop(struct keybroker *k)
{
	k->exchanges = NULL; /* of threads that this process does not have, or of a credential */
	handle_disconnect(k);
}

/* --- losing the connection, and getting another --- */

bool exchange_is_hopeless(const struct keybroker *k)
{
	enum keybroker_code code = k->failure.code;

	if (k->wire.fd >= 0 || code == KEYBROKER_LOST || code == KEYBROKER_NOT_LEADER ||
	    code == KEYBROKER_TIMEOUT)
		return false;
	return code != KEYBROKER_UNREACHABLE || k->lost_at_ms == 0 ||
	       wire_now_ms() - k->lost_at_ms >= EXCHANGE_RETURN_MS;
}

void exchange_hurry(struct keybroker *k)
{
	if (k->wire.fd < 0 && k->pause_ms > EXCHANGE_WAITING_PAUSE_MS) {
		k->pause_ms = EXCHANGE_PAUSE_MS;
		k->retry_at_ms = 0;
	}
}

static bool exchange_is_awaited(const struct keybroker *k)
{
	const struct exchange *x = k->exchanges;

	while (x && x->ended)
		x = x->next;
	return x || k->n_waiting > 0;
}

/* The next attempt to connect is made after a pause, which is longer from time to time. */
static void exchange_pause(struct keybroker *k)
{
	int64_t most = exchange_is_awaited(k) ? EXCHANGE_WAITING_PAUSE_MS : EXCHANGE_MOST_PAUSE_MS;
	int64_t pause = exchange_jitter(MIN_OF(MAX_OF(k->pause_ms, EXCHANGE_PAUSE_MS), most));

	k->retry_at_ms = wire_now_ms() + MAX_OF(pause, k->failure.retry_after_ms);
	k->pause_ms = MIN_OF(MAX_OF(k->pause_ms, EXCHANGE_PAUSE_MS) * 2, EXCHANGE_MOST_PAUSE_MS);
}

/* Whether a request that was under way ends with the connection. */
static bool exchange_ends_with_it(const struct keybroker *k, const struct exchange *x)
{
	enum keybroker_code code = k->failure.code;

	if (code != KEYBROKER_LOST && code != KEYBROKER_NOT_LEADER && code != KEYBROKER_TIMEOUT)
		return true; /* what came back was no answer, and would not be the next time */
	if (x->call->once)
		return true;
	return !x->ended && wire_now_ms() - k->lost_at_ms >= EXCHANGE_RETURN_MS;
}

/* Ends what ends with the connection; the rest is sent again over the next one. */
static void exchange_unsend(struct keybroker *k)
{
	struct exchange *x = k->exchanges;

	while (x) {
		bool ends = x->sent && exchange_ends_with_it(k, x);

		x->repeated = x->repeated || x->sent;
		x->sent = false;
		if (x->ended)
			x->deadline_ms = INT64_MAX;
		if (ends)
			exchange_fail(k, x, &k->failure);
		x = ends ? k->exchanges : x->next; /* its end may have begun or ended others */
	}
}

void exchange_lost(struct keybroker *k)
{
	int64_t now = wire_now_ms();

	handle_disconnect(k);
	k->n_failures++;
	/* a connection that lived for a while was a broker's: its end starts the time again */
	if (k->lost_at_ms == 0 || now - k->began_ms > EXCHANGE_SERVED_MS)
		k->lost_at_ms = now;
	/* at once, if it was a broker's; one that hangs up again and again is left in peace */
	if (k->answered && k->failure.code == KEYBROKER_LOST &&
	    now - k->at_once_ms > EXCHANGE_SERVED_MS)
		k->retry_at_ms = k->at_once_ms = now;
	else
		exchange_pause(k);
	exchange_unsend(k);
	credential_lost(k);
	(void)pthread_cond_broadcast(&k->moved);
}

static void exchange_lost_by(struct keybroker *k, int r)
{
	if (r == -EBADMSG || r == -EMSGSIZE)
		(void)fault_set(&k->failure, KEYBROKER_GARBAGE, "what the server sent is %s",
				r == -EMSGSIZE ? "larger than a reply may be"
					       : "not the protocol of a broker");
	else if (r == -ENOMEM)
		(void)fault_set(&k->failure, KEYBROKER_NO_MEMORY, "no memory");
	else
		(void)fault_set(&k->failure, KEYBROKER_LOST,
				"the connection to the broker was lost: %s",
				r == -ENODATA ? "it was closed" : strerror(-r));
	exchange_lost(k);
}

static bool exchange_connect(struct keybroker *k)
{
	int64_t now = wire_now_ms();
	struct exchange *x;

	if (!k->exchanges || now < k->retry_at_ms)
		return false;
	struct keybroker_error e;
	enum keybroker_code code = handle_connect(k, &e);
	if (code != KEYBROKER_OK)
		k->failure = e; /* else that of the connection before this one still holds */
	if (code == KEYBROKER_OK) {
		k->began_ms = now;
		credential_met(k);
	} else if (code == KEYBROKER_PENDING) {
		k->retry_at_ms = now + EXCHANGE_BACKLOG_MS;
	} else {
		k->n_failures++;
		exchange_pause(k);
		for (x = k->exchanges; x && x->ended; x = x->next)
			;
		while (x && exchange_is_hopeless(k)) {
			exchange_fail(k, x, &k->failure);
			for (x = k->exchanges; x && x->ended; x = x->next)
				;
		}
	}
	(void)pthread_cond_broadcast(&k->moved);
	return true;
}

/* --- sending --- */

static int exchange_pack(struct keybroker *k, struct exchange *x)
{
	int64_t now = wire_now_ms();

	if (x->ended)
		x->deadline_ms = now + x->patience_ms;
	int64_t left = x->deadline_ms - now;
	int64_t wait = MAX_OF(left - MIN_OF(EXCHANGE_GRACE_MS, left / 5), 1);
	x->sent = true;
	x->n_heard = k->n_heard;
	k->wire.passed_fd = call_passed_fd(x->call);
	return call_pack(&k->wire.out, x->id, x->call, MIN_OF(wait, EXCHANGE_MOST_WAIT_MS));
}

/* A descriptor goes with the first byte of its request: so each begins with nothing before it. */
static int exchange_flush(struct keybroker *k)
{
	for (;;) {
		struct exchange *x = k->exchanges;
		int r = wire_flush(&k->wire);

		while (x && x->sent)
			x = x->next;
		if (r < 0 || !x)
			return r;
		r = exchange_pack(k, x);
		if (r >= 0)
			continue;
		buf_deinit(&k->wire.out);
		(void)fault_pack(&x->error, r);
		exchange_end(k, x);
	}
}

/* --- hearing --- */

/* The broker's own words, under the advice for their code. */
static enum keybroker_code exchange_refused(const struct value *error, struct keybroker_error *e)
{
	const char *text = value_text(value_get(error, "message"));
	const char *name = value_text(value_get(error, "code"));

	enum keybroker_code code = fault_set(e, fault_code_from_name(name), "%s",
					     text && *text ? text
					     : name	   ? name
							   : "no reason given");
	utf8_clean(e->message);
	if (value_int(value_get(error, "retry_after_ms"), &e->retry_after_ms))
		e->retry_after_ms = MIN_OF(MAX_OF(e->retry_after_ms, 0), EXCHANGE_MOST_RETRY_MS);
	return code;
}

static void exchange_heard_reply(struct keybroker *k, struct message *m)
{
	_cleanup_(message_freep) struct message *reply = m;
	struct exchange *x = exchange_find(k, message_id(m));

	if (message_type(m) != MESSAGE_REPLY || !message_error(m) == !message_result(m)) {
		(void)fault_set(&k->failure, KEYBROKER_GARBAGE,
				"what the server sent is not the reply to a request");
		exchange_lost(k);
		return;
	}
	if (!x)
		return; /* nobody waits for it any more */
	/* the instance that gave up its lead doesn't serve this connection again */
	if (message_error(m) &&
	    exchange_refused(message_error(m), &x->error) == KEYBROKER_NOT_LEADER) {
		k->failure = x->error;
		exchange_lost(k);
		return;
	}
	k->answered = true;
	k->lost_at_ms = 0;
	k->pause_ms = 0;
	if (message_result(m))
		x->reply = TAKE(reply);
	exchange_end(k, x);
}

static void exchange_heard_note(struct keybroker *k, struct message *m)
{
	_cleanup_(message_freep) struct message *note = m;

	if (k->listening && !k->heard)
		k->heard = TAKE(note);
	else if (strcmp(message_method(m), "leader_changed") == 0 && k->credentials)
		exchange_lost_by(k, -ENODATA);
	else
		credential_heard(k, m);
	(void)pthread_cond_broadcast(&k->moved);
}

static bool exchange_hear(struct keybroker *k)
{
	struct message *m = NULL;
	int r;

	if (k->listening && k->heard)
		return false;
	r = wire_take(&k->wire, &m);
	if (r == -EAGAIN) {
		r = wire_fill(&k->wire);
		if (r == -EAGAIN)
			return false;
	} else if (r >= 0) {
		k->n_heard++;
		if (message_type(m) == MESSAGE_NOTIFICATION)
			exchange_heard_note(k, m);
		else
			exchange_heard_reply(k, m);
	}
	if (r < 0)
		exchange_lost_by(k, r);
	return true;
}

/* --- in time --- */

/* Ends one that has waited long enough. */
static bool exchange_expire(struct keybroker *k)
{
	int64_t now = wire_now_ms();
	struct exchange *x = k->exchanges;

	while (x && now < x->deadline_ms)
		x = x->next;
	if (!x)
		return false;
	(void)fault_set(&x->error, KEYBROKER_TIMEOUT, "the broker did not answer in time (%s)",
			k->path ? k->path : k->paths.path[0]);
	bool mute = x->sent && x->n_heard == k->n_heard;
	if (!x->sent && k->wire.fd < 0 && k->failure.code != KEYBROKER_OK)
		x->error = k->failure;
	exchange_end(k, x);
	/* nothing at all has come since it was sent: nobody is there */
	if (mute && k->wire.fd >= 0) {
		(void)fault_set(&k->failure, KEYBROKER_TIMEOUT,
				"the broker did not answer in time (%s)", k->path);
		exchange_lost(k);
	}
	return true;
}

bool exchange_step(struct keybroker *k)
{
	credential_tick(k);
	if (exchange_expire(k))
		return true;
	if (k->wire.fd < 0)
		return exchange_connect(k);
	int r = exchange_flush(k);
	if (r >= 0 || r == -EAGAIN)
		return exchange_hear(k);
	exchange_lost_by(k, r);
	return true;
}

int64_t exchange_due_ms(const struct keybroker *k)
{
	int64_t due = credential_due_ms(k);

	if (k->wire.fd < 0 && k->exchanges)
		due = MIN_OF(due, k->retry_at_ms);
	if (k->wire.fd >= 0 && k->wire.more)
		due = 0;
	for (const struct exchange *x = k->exchanges; x; x = x->next)
		due = MIN_OF(due, x->deadline_ms);
	return due;
}

/* Without a connection, or while another thread polls it: that one tells. */
static void exchange_wait_for_another(struct keybroker *k, int64_t ms)
{
	struct timespec until;

	(void)clock_gettime(CLOCK_MONOTONIC, &until); /* cannot fail for this clock */
	until.tv_sec += ms / 1000;
	until.tv_nsec += ms % 1000 * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	(void)pthread_cond_timedwait(&k->moved, &k->lock, &until); /* the caller looks again */
}

void exchange_wait(struct keybroker *k, int64_t until_ms)
{
	int64_t ms = MIN_OF(until_ms, exchange_due_ms(k)) - wire_now_ms();
	struct pollfd p = { .fd = k->wire.fd, .events = POLLIN };

	/* not for ever: another thread may close what is polled here before it is */
	ms = MIN_OF(ms, EXCHANGE_LOOK_MS);
	if (k->wire.out.len > 0) {
		p.events |= POLLOUT;
		ms = MIN_OF(ms, EXCHANGE_BACKLOG_MS); /* who polls may not poll for this */
	}
	if (ms <= 0)
		return;
	if (k->polled || k->wire.fd < 0) {
		exchange_wait_for_another(k, ms);
		return;
	}
	k->polled = true;
	handle_unlock(k);
	(void)poll(&p, 1, (int)ms); /* the caller looks what there is */
	handle_lock(k);
	k->polled = false;
	(void)pthread_cond_broadcast(&k->moved); /* another one polls from now on */
}
