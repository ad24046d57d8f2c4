/*
 * All connections of a server: the turn's budget, who goes on in the next turn, and who is closed
 * for owing us something for too long. Owns the connections, borrows base and accounts.
 */
#include "daemon/conn_set.h"

#include <assert.h>

#include "base/clock.h"
#include "daemon/conn_ties.h"

#define CONN_SET_NSEC_PER_MSEC 1000000
/* Who is over its rate goes on in steps of this: a few requests together share a commit, and are
 * still few. */
#define CONN_SET_PACE_MS 5

int64_t conn_set_now_ms(void)
{
	return clock_monotonic_nsec() / CONN_SET_NSEC_PER_MSEC;
}

/* Has the timer run for whoever has owed longest, if it doesn't yet. */
void conn_set_arm_reap(struct conn_set *s)
{
	struct conn *c = TAILQ_FIRST(&s->owing);
	struct timeval wait;
	int64_t wait_ms;

	if (!c || evtimer_pending(&s->reap, NULL))
		return;
	wait_ms = MAX_OF(c->since_ms + s->limits.idle_reap_ms - conn_set_now_ms(), 0) + 1;
	wait = (struct timeval){ .tv_sec = wait_ms / 1000, .tv_usec = wait_ms % 1000 * 1000 };
	(void)evtimer_add(&s->reap, &wait); /* fails without memory only */
}

/* First the dead, then the queue: each connection once, as long as the turn may take requests. */
static void conn_set_work(struct conn_set *s)
{
	struct conn *c;

	while ((c = TAILQ_FIRST(&s->places[CONN_UNTOLD]))) {
		c->busy = true;
		conn_tell(c);
		c->busy = false;
		conn_settle(c);
	}
	for (uint64_t n = s->n_queued; n > 0 && s->turn_left > 0; n--) {
		c = TAILQ_FIRST(&s->places[CONN_QUEUED]);
		if (!c)
			return;
		conn_move(c, CONN_IDLE);
		conn_run(c);
	}
}

static void conn_set_on_work(evutil_socket_t fd _unused_, short what _unused_, void *userdata)
{
	conn_set_work(userdata);
}

/*
 * Closes those that have owed for too long, except where it is we who do not read. A slow reader is
 * given a push first: its socket takes bytes long before it calls itself writable.
 */
static void conn_set_reap(struct conn_set *s)
{
	int64_t before = conn_set_now_ms() - s->limits.idle_reap_ms;
	struct conn *c;

	while ((c = TAILQ_FIRST(&s->owing)) && c->since_ms < before) {
		if (c->out.len > 0)
			conn_push(c);
		if (!c->progressed && (c->place == CONN_READING || c->out.len > 0))
			conn_close(c);
		c->progressed = true;
		conn_settle(c);
	}
	conn_set_arm_reap(s);
}

static void conn_set_on_reap(evutil_socket_t fd _unused_, short what _unused_, void *userdata)
{
	conn_set_reap(userdata);
}

static void conn_set_on_ties(evutil_socket_t fd _unused_, short what _unused_, void *userdata)
{
	conn_set_look_at_ties(userdata);
}

/* As many of the uid's connections as it may make requests now, first come, first served. */
static void conn_set_release(struct conn_set *s, struct account *account, int64_t now)
{
	int64_t rate = s->limits.requests_per_second;
	struct account sketch = *account;

	while (!TAILQ_EMPTY(&account->paced) && account_request_wait(&sketch, rate, now) == 0) {
		conn_move(TAILQ_FIRST(&account->paced), CONN_QUEUED);
		account_take_request(&sketch, rate, now);
	}
}

void conn_set_arm_pace(struct conn_set *s)
{
	int64_t wait_ms = INT64_MAX, now = clock_now().boot_ms;
	struct account *account;
	struct timeval wait;

	if (TAILQ_EMPTY(&s->paced) || evtimer_pending(&s->pace, NULL))
		return;
	TAILQ_FOREACH (account, &s->paced, of_paced)
		wait_ms = MIN_OF(wait_ms,
				 account_request_wait(account, s->limits.requests_per_second, now));
	wait_ms = MAX_OF(wait_ms, CONN_SET_PACE_MS);
	wait = (struct timeval){ .tv_sec = wait_ms / 1000, .tv_usec = wait_ms % 1000 * 1000 };
	(void)evtimer_add(&s->pace, &wait); /* fails without memory only */
}

static void conn_set_pace(struct conn_set *s)
{
	struct account *account, *next;
	int64_t now = clock_now().boot_ms;

	for (account = TAILQ_FIRST(&s->paced); account; account = next) {
		next = TAILQ_NEXT(account, of_paced);
		conn_set_release(s, account, now);
	}
	conn_set_arm_pace(s);
}

static void conn_set_on_pace(evutil_socket_t fd _unused_, short what _unused_, void *userdata)
{
	conn_set_pace(userdata);
}

void conn_set_init(struct conn_set *s)
{
	TAILQ_INIT(&s->all);
	for (size_t i = 0; i < CONN_N_PLACES; i++)
		TAILQ_INIT(&s->places[i]);
	TAILQ_INIT(&s->owing);
	TAILQ_INIT(&s->paced);
	s->turn_left = SERVER_TURN_REQUESTS;
	/* these fail for a base that is NULL only */
	(void)event_assign(&s->work, s->base, -1, 0, conn_set_on_work, s);
	(void)evtimer_assign(&s->reap, s->base, conn_set_on_reap, s);
	(void)evtimer_assign(&s->ties, s->base, conn_set_on_ties, s);
	(void)evtimer_assign(&s->pace, s->base, conn_set_on_pace, s);
}

void conn_set_deinit(struct conn_set *s)
{
	struct conn *c;

	while ((c = TAILQ_FIRST(&s->all))) {
		assert(TAILQ_EMPTY(&c->requests) && TAILQ_EMPTY(&c->ties));
		conn_close(c);
		conn_settle(c);
	}
	(void)event_del(&s->work);
	(void)event_del(&s->reap);
	(void)event_del(&s->ties);
	(void)event_del(&s->pace);
}

void conn_set_limits(struct conn_set *s, const struct server_limits *limits)
{
	s->limits = *limits;
	s->eased = true;
	(void)event_del(&s->reap);
	(void)event_del(&s->pace);
	conn_set_arm_reap(s);
	conn_set_arm_pace(s);
}

void conn_set_begin_turn(struct conn_set *s)
{
	struct conn *c, *next;

	s->turn++;
	s->turn_left = SERVER_TURN_REQUESTS;
	for (c = s->eased ? TAILQ_FIRST(&s->places[CONN_HELD]) : NULL; c; c = next) {
		next = TAILQ_NEXT(c, of_place);
		conn_settle(c);
	}
	s->eased = false;
	if (!TAILQ_EMPTY(&s->places[CONN_QUEUED]))
		event_active(&s->work, 0, 0);
}

/* Takes none off the list: only a gone connection without requests is freed. */
void conn_set_stop(struct conn_set *s)
{
	struct conn *c;

	s->stopped = true;
	TAILQ_FOREACH (c, &s->all, of_all)
		if (c->state == CONN_OPEN)
			conn_settle(c);
}
