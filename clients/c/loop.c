/*
 * The descriptor for somebody else's event loop, and what that calls. An epoll set, since it stays
 * the same when the connection changes; it is made when it is first asked for.
 */
#include "clients/c/loop.h"

#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/fd.h"
#include "clients/c/exchange.h"
#include "clients/c/handle.h"

enum { LOOP_MOST_STEPS = 64 }; /* a broker that talks without end must not keep the loop */

static void loop_register(struct keybroker *k, uint32_t events)
{
	struct epoll_event event = { .events = events };

	if (events == k->epoll_events)
		return;
	/* without memory for it nothing is heard until the next call: that is no error of this one
	 */
	(void)epoll_ctl(k->epoll_fd, k->epoll_events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, k->wire.fd,
			&event);
	k->epoll_events = events;
}

void loop_arm(struct keybroker *k)
{
	struct itimerspec timer = { 0 };
	int64_t due = exchange_due_ms(k);

	if (k->epoll_fd < 0)
		return;
	if (k->wire.fd >= 0)
		loop_register(k, EPOLLIN | (k->wire.out.len > 0 ? EPOLLOUT : 0));
	if (due != INT64_MAX) {
		timer.it_value.tv_sec = due / 1000;
		timer.it_value.tv_nsec = due % 1000 * 1000000 + 1; /* all zero would disarm it */
	}
	(void)timerfd_settime(k->timer_fd, TFD_TIMER_ABSTIME, &timer, NULL);
}

void loop_forget(struct keybroker *k)
{
	/* closing is not enough where a child of a fork has a copy */
	if (k->epoll_events)
		(void)epoll_ctl(k->epoll_fd, EPOLL_CTL_DEL, k->wire.fd, NULL);
	k->epoll_events = 0;
}

void loop_close(struct keybroker *k)
{
	fd_close(&k->epoll_fd);
	fd_close(&k->timer_fd);
	k->epoll_events = 0;
}

static bool loop_open(struct keybroker *k)
{
	struct epoll_event event = { .events = EPOLLIN };

	k->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	k->timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	if (k->epoll_fd >= 0 && k->timer_fd >= 0 &&
	    epoll_ctl(k->epoll_fd, EPOLL_CTL_ADD, k->timer_fd, &event) == 0)
		return true;
	loop_close(k);
	return false;
}

int keybroker_fd(struct keybroker *k)
{
	handle_lock(k);
	if (k->epoll_fd < 0)
		(void)loop_open(k); /* -1 says it */
	int fd = k->epoll_fd;
	handle_unlock(k); /* arms it */
	return fd;
}

void keybroker_dispatch(struct keybroker *k)
{
	handle_lock(k);
	for (int i = 0; i < LOOP_MOST_STEPS && exchange_step(k); i++)
		;
	handle_unlock(k); /* arms the timer anew, which makes it unreadable */
}
