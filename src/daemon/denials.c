/* Counts per (uid, profile) and minute; one timer for all. */
#include "daemon/denials.h"

#include <assert.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/map.h"
#include "daemon/daemon.h"
#include "daemon/request.h"
#include "daemon/turn.h"

#define DENIALS_MINUTE_MS 60000

struct denial_id {
	uid_t uid;
	char profile[PROFILE_NAME_MAX];
};

struct denial {
	struct denial_id id;
	struct peer peer;
	int64_t count; /* since the row was written */
	int64_t ends_at_ms;
	UT_hash_handle hh;
};

struct denials {
	struct daemon *d;
	struct denial *by_id;
	struct event *timer;
};

static struct audit_row *denials_row(struct change *c, const struct denial *x)
{
	struct audit_row *a = change_audit(c, "acquire", "denied", &x->peer);

	(void)snprintf(a->profile, sizeof(a->profile), "%s", x->id.profile);
	(void)snprintf(a->detail, sizeof(a->detail), "no rule allows it");
	return a;
}

static void denials_write_count(struct denials *denials, const struct denial *x)
{
	struct change *c;
	struct audit_row *a;

	if (x->count == 0)
		return;
	c = change_new(denials->d->turn, NULL, NULL);
	a = denials_row(c, x);
	(void)snprintf(a->detail, sizeof(a->detail), "%lld more within a minute",
		       (long long)x->count);
	change_submit(c);
}

static void denials_on_timer(int fd, short what, void *userdata)
{
	struct denials *denials = userdata;
	int64_t now = clock_now().boot_ms;
	struct denial *x, *next;

	(void)fd;
	(void)what;
	HASH_ITER (hh, denials->by_id, x, next) {
		if (x->ends_at_ms > now)
			continue;
		denials_write_count(denials, x);
		assert(denials->by_id); /* it holds x; clang-tidy cannot see that */
		HASH_DEL(denials->by_id, x);
		free(x);
	}
	if (!denials->by_id)
		(void)event_del(denials->timer);
}

struct denials *denials_new(struct daemon *d)
{
	struct denials *denials = xcalloc(1, sizeof(*denials));

	denials->d = d;
	denials->timer = event_new(d->base, -1, EV_PERSIST, denials_on_timer, denials);
	if (!denials->timer)
		abort();
	return denials;
}

void denials_free(struct denials *denials)
{
	struct denial *x, *next;

	if (!denials)
		return;
	HASH_ITER (hh, denials->by_id, x, next) {
		HASH_DEL(denials->by_id, x);
		free(x);
	}
	event_free(denials->timer);
	free(denials);
}

void denials_flush(struct daemon *d)
{
	struct denial *x, *next;

	HASH_ITER (hh, d->denials->by_id, x, next) {
		denials_write_count(d->denials, x);
		x->count = 0;
	}
}

static void denials_reply(struct request *r, const char *profile)
{
	const struct peer *p = request_peer(r);

	request_fail(
		r, PROTO_DENIED, -1,
		"no rule allows profile %s to uid %u, gid %u, pid %d; the administrator adds a rule, `keybroker "
		"whoami` shows what the broker sees",
		profile, p->uid, p->gid, (int)p->pid);
}

/* Carries the first denial through the commit. */
struct denial_report {
	struct denials *denials;
	struct denial_id id;
	struct request *request;
};

static void denials_stored(void *userdata, int outcome)
{
	struct denial_report *report = userdata;
	struct denial *x;

	if (outcome == 0) {
		denials_reply(report->request, report->id.profile);
	} else {
		HASH_FIND(hh, report->denials->by_id, &report->id, sizeof(report->id), x);
		if (x)
			x->ends_at_ms = 0; /* no row: the next denial is the first */
		request_fail(report->request, PROTO_AUDIT_UNAVAILABLE, 1000,
			     "denied, and that cannot be recorded now");
	}
	free(report);
}

static void denials_submit(struct denials *denials, const struct denial *x, struct request *r)
{
	struct denial_report *report = xcalloc(1, sizeof(*report));
	struct change *c = change_new(denials->d->turn, denials_stored, report);

	report->denials = denials;
	report->id = x->id;
	report->request = r;
	(void)denials_row(c, x); /* nothing to add to it */
	change_submit(c);
}

void denials_answer(struct daemon *d, struct request *r, const char *profile)
{
	const struct timeval minute = { .tv_sec = DENIALS_MINUTE_MS / 1000 };
	struct denial_id id;
	struct denial *x;

	memset(&id, 0, sizeof(id)); /* hashed with its padding */
	id.uid = request_peer(r)->uid;
	(void)snprintf(id.profile, sizeof(id.profile), "%s", profile);
	HASH_FIND(hh, d->denials->by_id, &id, sizeof(id), x);
	if (x && x->ends_at_ms > clock_now().boot_ms) {
		x->count++;
		denials_reply(r, profile);
		return;
	}
	if (!x) {
		x = xcalloc(1, sizeof(*x));
		x->id = id;
		HASH_ADD(hh, d->denials->by_id, id, sizeof(id), x);
	}
	denials_write_count(d->denials,
			    x); /* of the minute before, that the timer has yet to see */
	x->count = 0;
	x->peer = *request_peer(r);
	x->ends_at_ms = clock_now().boot_ms + DENIALS_MINUTE_MS;
	if (!evtimer_pending(d->denials->timer, NULL))
		(void)event_add(d->denials->timer, &minute); /* fails only without memory */
	denials_submit(d->denials, x, r);
}
