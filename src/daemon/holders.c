/* Holders are made by their first lease and go with their last. */
#include "daemon/holders.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"
#include "daemon/account.h"
#include "daemon/daemon.h"
#include "daemon/leases.h"
#include "io/process.h"

struct holder {
	struct holder **table;
	struct holder_id id;
	bool shared; /* in the table: who it is is known */
	struct lease_list held;
	int pidfd;
	struct event *ended;
	UT_hash_handle by_process;
};

static void holder_free(struct holder *h)
{
	if (h->shared)
		HASH_DELETE(by_process, *h->table, h);
	event_free(h->ended);
	fd_close(&h->pidfd);
	free(h);
}

static void holder_leave_process(struct lease *l)
{
	struct holder *h = l->holder;

	if (!h)
		return;
	account_hold(l->d->accounts, l->account, -1);
	TAILQ_REMOVE(&h->held, l, of_holder);
	l->holder = NULL;
	if (TAILQ_EMPTY(&h->held))
		holder_free(h);
}

void holder_leave(struct lease *l)
{
	tie_cut(&l->tie);
	holder_leave_process(l);
}

/* Each ends by itself; one that cannot be written down now tries again. */
static void holder_on_end(int fd, short what, void *userdata)
{
	struct holder *h = userdata;
	struct lease *l, *next;

	(void)fd;
	(void)what;
	(void)event_del(h->ended);
	for (l = TAILQ_FIRST(&h->held); l; l = next) {
		next = TAILQ_NEXT(l, of_holder);
		lease_end(l, LEASE_RELEASED, "release", NULL, NULL, NULL);
	}
}

static struct holder *holder_new(struct holder **table, const struct lease *l, int pidfd)
{
	struct holder *h = xcalloc(1, sizeof(*h));

	h->table = table;
	h->id = lease_holder_id(&l->row);
	h->shared = h->id.start != 0; /* else another may have that number */
	TAILQ_INIT(&h->held);
	h->pidfd = fcntl(pidfd, F_DUPFD_CLOEXEC, 3);
	if (h->pidfd >= 0)
		h->ended = event_new(l->d->base, h->pidfd, EV_READ | EV_PERSIST, holder_on_end, h);
	if (!h->ended || event_add(h->ended, NULL) < 0) {
		log_error("no descriptor to watch process %d with: %s", (int)h->id.pid,
			  strerrordesc_np(errno));
		if (h->ended)
			event_free(h->ended);
		fd_close(&h->pidfd);
		free(h);
		return NULL;
	}
	if (h->shared)
		HASH_ADD(by_process, *table, id, sizeof(h->id), h);
	return h;
}

int holder_join(struct holder **table, struct lease *l, int pidfd)
{
	struct holder_id id = lease_holder_id(&l->row);
	struct holder *h;

	HASH_FIND(by_process, *table, &id, sizeof(id), h);
	if (pidfd < 0 || process_ended(pidfd))
		return -ESRCH;
	if (!h)
		h = holder_new(table, l, pidfd);
	if (!h)
		return -EMFILE;
	l->holder = h;
	account_hold(l->d->accounts, l->account, 1);
	TAILQ_INSERT_TAIL(&h->held, l, of_holder);
	return 0;
}

/* One that is being granted yet ends when it begins. */
static void holder_on_hang_up(struct tie *t)
{
	struct lease *l = CONTAINER_OF(t, struct lease, tie);

	if (l->counted)
		lease_end(l, LEASE_RELEASED, "release", NULL, NULL, NULL);
}

bool holder_connect(struct lease *l, struct request *r)
{
	l->tie.ended = holder_on_hang_up;
	if (!request_tie(r, &l->tie))
		return false;
	holder_leave_process(l);
	return true;
}

bool holder_is_gone(const struct lease *l)
{
	return l->row.bind == LEASE_CONNECTION ? !l->tie.conn
					       : l->holder && process_ended(l->holder->pidfd);
}
