/*
 * The claim, the wait for it, and the end of whoever stands in its way. The leader's pidfd wakes us
 * at once; a tick sees what a pidfd cannot tell (stopped, hung, another pid namespace).
 */
#include "daemon/standby.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "core/election.h"
#include "daemon/configure.h"
#include "daemon/daemon.h"
#include "daemon/listeners.h"
#include "daemon/start.h"
#include "daemon/upstream.h"
#include "io/notify.h"
#include "io/process.h"
#include "io/store.h"
#include "io/store_instance.h"

#define STANDBY_KILL_MS 200
#define STANDBY_SOCKETS_MS 5000 /* so long who starts us waits for them */
#define STANDBY_RETRY_MS 10	/* while another holds the lock, or two of us claim at once */

struct standby {
	struct daemon *d;
	struct leader leader; /* whom we watch; pid 0: nobody yet */
	int pidfd;	      /* its process; -1 if that cannot be had */
	struct event *ended, *tick, *again;
	struct election_watch watch;
	enum election_evidence evidence;
	bool waited; /* the log has it that the state cannot be written, or who keeps us from it */
	bool unsaid; /* that we stand by: not before we have the sockets */
	int64_t unsaid_since_ms;
	int64_t beat_at_ms;
	/* who holds the state's lock, while we want it */
	pid_t locker;
	int64_t locked_since_ms, locker_stopped_since_ms;
	int exit_code;
};

static int64_t standby_now_ms(void)
{
	return clock_monotonic_nsec() / 1000000;
}

static bool standby_near(const struct standby *s, const struct leader *row)
{
	return row->pidns == s->d->self.pidns && strcmp(row->boot_id, s->d->self.boot_id) == 0;
}

static char standby_state(const struct standby *s, const struct leader *row)
{
	return standby_near(s, row) ? process_state(row->pid) : '\0';
}

static bool standby_is_stopped(char state)
{
	return state == 'T' || state == 't';
}

/* Asked within the claim: what we saw must still hold for the very row that is there now. */
static bool standby_may_take(const struct leader *row, void *userdata)
{
	struct standby *s = userdata;

	if (start_is_dead(row, &s->d->self))
		return true;
	if (strcmp(row->holder, s->watch.last.holder) != 0)
		return false;
	if (s->evidence == ELECTION_STOPPED)
		return standby_is_stopped(standby_state(s, row));
	return s->evidence == ELECTION_STILL && row->beat == s->watch.last.beat;
}

/* Through a pidfd that was verified, and never anyone else. */
static void standby_end(const struct standby *s, const struct leader *row, const char *why)
{
	_cleanup_(fd_close) int fd =
		standby_near(s, row) ? process_open_same(row->pid, row->start_time) : -ESRCH;

	if (fd < 0)
		return;
	log_warning("instance %s, pid %d, is killed: %s", row->instance, (int)row->pid, why);
	if (process_kill(fd, STANDBY_KILL_MS) < 0)
		log_warning("pid %d has not ended yet; what it writes is refused", (int)row->pid);
}

/* --- the lock --- */

struct lock_search {
	struct standby *s;
	pid_t pid;
	struct leader found;
};

static int standby_find_pid(const struct leader *row, void *userdata)
{
	struct lock_search *search = userdata;

	if (row->pid != search->pid || !standby_near(search->s, row))
		return 0;
	search->found = *row;
	return 1;
}

/*
 * Who holds the lock for long is one of us that hangs, or somebody's sqlite3. Only the former is
 * killed: stopped, or not waiting for the disk. The others wait as we do, and are left in peace.
 */
static void standby_look_at_lock(struct standby *s)
{
	const struct timing *t = &s->d->config->timing;
	struct lock_search search = { .s = s, .pid = store_lock_holder(s->d->store) };
	int64_t now = standby_now_ms();
	char state;

	if (search.pid != s->locker)
		s->locked_since_ms = now;
	s->locker = search.pid;
	if (search.pid == 0)
		return;
	state = process_state(search.pid);
	if (!standby_is_stopped(state))
		s->locker_stopped_since_ms = 0;
	else if (s->locker_stopped_since_ms == 0)
		s->locker_stopped_since_ms = now;
	if (now - s->locked_since_ms < t->locked_ms && s->evidence != ELECTION_STOPPED)
		return;
	if (store_each_instance(s->d->store, standby_find_pid, &search) != 1) {
		if (!s->waited)
			log_warning("pid %d, none of this broker's, holds the state's lock",
				    (int)search.pid);
		s->waited = true;
		return;
	}
	if (s->locker_stopped_since_ms && now - s->locker_stopped_since_ms >= t->stopped_ms)
		standby_end(s, &search.found, "stopped while it holds the state's lock");
	else if (s->evidence == ELECTION_STOPPED &&
		 strcmp(search.found.holder, s->leader.holder) == 0)
		standby_end(s, &search.found, "the stopped leader holds the state's lock");
	else if (state != 'D' && now - s->locked_since_ms >= t->hung_ms)
		standby_end(s, &search.found, "it hangs with the state's lock");
}

/* --- watching --- */

static void standby_try(struct standby *s);

static void standby_on_ended(int fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	standby_try(userdata);
}

static void standby_unwatch(struct standby *s)
{
	if (s->ended)
		event_free(TAKE(s->ended));
	fd_close(&s->pidfd);
}

/* First the sockets: whoever hears that we stand by may stop the leader at once. */
static void standby_say(struct standby *s)
{
	bool ready = listeners_look(s->d->listeners);

	if (!s->unsaid || (!ready && standby_now_ms() - s->unsaid_since_ms < STANDBY_SOCKETS_MS))
		return;
	s->unsaid = false;
	if (!ready)
		log_warning("no instance hands the listening sockets over: whoever connects while "
			    "the leader is replaced may be refused");
	log_info(
		"STANDBY on %s: instance %s, pid %d, leads (term %llu); this one takes over when it ends",
		s->d->config->state_dir, s->leader.instance, (int)s->leader.pid,
		(unsigned long long)s->leader.term);
	notify_send("READY=1\nSTATUS=standby, pid %d leads", (int)s->leader.pid);
	if (s->d->upstream)
		upstream_prepare(s->d->upstream); /* takeover shall not wait for it */
}

static void standby_watch(struct standby *s, const struct leader *row)
{
	bool same = strcmp(row->holder, s->leader.holder) == 0;

	if (same && (s->pidfd >= 0 || !standby_near(s, row)))
		return;
	standby_unwatch(s);
	s->leader = *row;
	if (!same) {
		s->unsaid = true;
		s->unsaid_since_ms = standby_now_ms();
		standby_say(s);
	}
	if (row->pid && standby_near(s, row))
		s->pidfd = process_open_same(row->pid, row->start_time);
	if (s->pidfd < 0)
		return; /* ended just now, or not to be seen: the tick finds out */
	s->ended = event_new(s->d->base, s->pidfd, EV_READ, standby_on_ended, s);
	if (!s->ended || event_add(s->ended, NULL) < 0)
		abort(); /* out of memory */
}

static void standby_again(struct standby *s)
{
	const struct timeval tv = { .tv_usec = STANDBY_RETRY_MS * 1000 };

	(void)evtimer_add(s->again,
			  &tv); /* fails only without memory, when the process ends anyway */
}

/* --- the claim --- */

/* Whose term this is, and whose was the one before. */
static void standby_describe_term(const struct leader *self, const struct leader *before,
				  char *text, size_t size)
{
	int n = snprintf(text, size, "term %llu of %s, pid %d; ", (unsigned long long)self->term,
			 self->holder, (int)self->pid);

	if (n < 0 || (size_t)n >= size)
		return;
	text += n;
	size -= (size_t)n;
	if (before->term == 0)
		(void)snprintf(text, size, "the first");
	else if (before->pid == 0)
		(void)snprintf(text, size, "term %llu of instance %s was given up",
			       (unsigned long long)before->term, before->instance);
	else
		(void)snprintf(text, size, "term %llu of %s, pid %d, instance %s was taken over",
			       (unsigned long long)before->term, before->holder, (int)before->pid,
			       before->instance);
}

static void standby_won(struct standby *s, const struct leader *before)
{
	s->d->term = s->d->self.term;
	s->d->took_over = s->leader.holder[0] != '\0';
	standby_describe_term(&s->d->self, before, s->d->succession, sizeof(s->d->succession));
	if (before->pid && strcmp(before->holder, s->d->self.holder) != 0)
		standby_end(s, before, "another leads now");
}

/* What keeps us from writing may have kept the leader from its beat: that proves nothing. */
static void standby_forgive(struct standby *s)
{
	if (s->evidence != ELECTION_STILL)
		return;
	election_start(&s->watch, &s->d->config->timing, standby_now_ms());
	s->evidence = ELECTION_ALIVE;
}

/* Nobody can lead here now. That passes: it is waited for as another one's end is. */
static void standby_wait(struct standby *s, int r)
{
	const char *why = store_outcome_text((enum store_outcome)r);

	if (!s->waited)
		log_error("STANDBY on %s: cannot take over: %s; this one does when that is over",
			  s->d->config->state_dir, why);
	if (!s->waited)
		notify_send("READY=1\nSTATUS=standby, cannot take over: %s", why);
	s->waited = true; /* the tick tries again */
	/* SQLite never writes by a connection that it could only open to read */
	if (r == STORE_E_READONLY)
		store_free(TAKE(s->d->store));
}

static void standby_failed(struct standby *s, int r)
{
	standby_forgive(s);
	if (start_may_pass(r)) {
		standby_wait(s, r);
		return;
	}
	s->exit_code = start_store_failed(s->d, r);
	s->d->stop_wanted = true;
}

static void standby_try(struct standby *s)
{
	struct daemon *d = s->d;
	struct leader before = { 0 };
	int r;

	if (d->term)
		return; /* another event of this pass was the first */
	if (!d->store)
		return; /* the tick opens it */
	r = store_claim(d->store, &d->self, standby_may_take, s, &before);
	if (r == 0) {
		standby_won(s, &before);
	} else if (r == STORE_E_LED) {
		s->locker = 0;
		s->waited = false; /* that is over: the next time is worth a line again */
		standby_watch(s, &before);
	} else if (r == STORE_E_BUSY) {
		standby_look_at_lock(s);
		if (s->locker != s->leader.pid)
			standby_forgive(s);
		standby_again(s);
	} else {
		standby_failed(s, r);
	}
}

/* A start found no room to open the state, or could only read it. */
static void standby_open(struct standby *s)
{
	int r = start_store(s->d);

	if (r == 0) {
		election_start(&s->watch, &s->d->config->timing, standby_now_ms());
		standby_try(s);
	} else if (r != STORE_E_BUSY) { /* else somebody else opens it just now */
		standby_failed(s, r);
	}
}

static void standby_on_again(int fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	standby_try(userdata);
}

static void standby_beat(struct standby *s, int64_t now)
{
	int r;

	if (now < s->beat_at_ms)
		return;
	s->beat_at_ms = now + s->d->config->timing.instance_beat_ms;
	r = store_beat_instance(s->d->store, s->d->self.holder);
	if (r != -ENOENT)
		return; /* done, or the lock is taken: the next one will do */
	election_start(&s->watch, &s->d->config->timing, now);
	r = store_register(s->d->store, &s->d->self);
	if (r != 0)
		s->beat_at_ms = now;
}

static void standby_on_tick(int fd, short what, void *userdata)
{
	struct standby *s = userdata;
	struct election_view view = { .now_ms = standby_now_ms() };
	struct leader row = { 0 };

	(void)fd;
	(void)what;
	if (s->d->term)
		return; /* another event of this pass has made us the leader */
	if (!s->d->store) {
		standby_open(s);
		return;
	}
	if (store_check_place(s->d->store) != 0) {
		standby_failed(s, STORE_E_MOVED); /* who leads is not to be read here any more */
		return;
	}
	if (store_read_leader(s->d->store, &row) != 0)
		return; /* logged; the next look may be luckier */
	memcpy(view.holder, row.holder, sizeof(view.holder));
	view.beat = row.beat;
	view.stopped = row.pid && standby_is_stopped(standby_state(s, &row));
	s->evidence = election_look(&s->watch, &s->d->config->timing, &view);
	if (row.pid == 0 || s->evidence != ELECTION_ALIVE || start_is_dead(&row, &s->d->self))
		standby_try(s);
	else
		standby_watch(s, &row);
	if (s->d->term || !s->d->store)
		return;
	daemon_follow_reloads(s->d);
	standby_beat(s, view.now_ms);
	standby_say(s);
}

static bool standby_events(struct standby *s)
{
	int64_t ms = s->d->config->timing.standby_tick_ms;
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	s->again = evtimer_new(s->d->base, standby_on_again, s);
	s->tick = event_new(s->d->base, -1, EV_PERSIST, standby_on_tick, s);
	return s->again && s->tick && event_add(s->tick, &tv) == 0;
}

int standby_run(struct daemon *d)
{
	struct standby s = { .d = d, .pidfd = -1 };
	int64_t now = standby_now_ms();

	if (!standby_events(&s))
		abort(); /* out of memory */
	election_start(&s.watch, &d->config->timing, now);
	s.beat_at_ms = now;
	if (d->store)
		standby_try(&s);
	else
		standby_open(&s);
	if (!d->term && !d->stop_wanted && d->store) {
		daemon_follow_reloads(d); /* since ours was read it may have been read again */
		standby_beat(&s, now);	  /* the start could not enter us, perhaps */
	}
	while (!d->term && !d->stop_wanted) {
		if (event_base_loop(d->base, EVLOOP_ONCE) < 0)
			abort();
	}
	standby_unwatch(&s);
	event_free(s.tick);
	event_free(s.again);
	return s.exit_code;
}
