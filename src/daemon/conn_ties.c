/* What lasts as long as its connection, and hears of its end. */
#include "daemon/conn_ties.h"

#include <poll.h>

#include "daemon/conn_set.h"

/* How often a connection that is not read is looked at. */
#define CONN_TIES_MS 200

void conn_watch_ties(struct conn *c)
{
	const struct timeval wait = { .tv_usec = CONN_TIES_MS * 1000 };

	if (c->place != CONN_HELD && c->place != CONN_STUCK)
		return;
	if (!TAILQ_EMPTY(&c->ties) && !evtimer_pending(&c->set->ties, NULL))
		(void)evtimer_add(&c->set->ties, &wait); /* fails without memory only */
}

static void conn_on_process(int fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	conn_close(userdata);
}

void conn_watch_process(struct conn *c)
{
	if (c->pidfd < 0 || event_initialized(&c->process))
		return;
	/* these fail for a base that is NULL, and without memory */
	(void)event_assign(&c->process, c->set->base, c->pidfd, EV_READ, conn_on_process, c);
	(void)event_add(&c->process, NULL);
}

bool request_tie(struct request *r, struct tie *t)
{
	if (r->conn->state != CONN_OPEN)
		return false;
	tie_cut(t);
	t->conn = r->conn;
	TAILQ_INSERT_TAIL(&t->conn->ties, t, of_conn);
	conn_watch_ties(t->conn);
	conn_watch_process(t->conn);
	return true;
}

void tie_cut(struct tie *t)
{
	if (t->conn)
		TAILQ_REMOVE(&t->conn->ties, t, of_conn);
	t->conn = NULL;
}

void conn_end_ties(struct conn *c)
{
	struct tie *t;

	while ((t = TAILQ_FIRST(&c->ties))) {
		tie_cut(t);
		t->ended(t);
	}
}

/* No event tells of it: that would fire as long as there is something to be read. */
static void conn_look_at_ties(struct conn *c)
{
	struct pollfd p = { .fd = c->fd, .events = POLLRDHUP };

	if (!TAILQ_EMPTY(&c->ties) && poll(&p, 1, 0) == 1)
		conn_end_ties(c);
	conn_watch_ties(c);
}

void conn_set_look_at_ties(struct conn_set *s)
{
	struct conn *c;

	TAILQ_FOREACH (c, &s->places[CONN_HELD], of_place)
		conn_look_at_ties(c);
	TAILQ_FOREACH (c, &s->places[CONN_STUCK], of_place)
		conn_look_at_ties(c);
}
