/* Counts per (uid, event, profile) and minute; one timer for all. An entry stays until its count is
 * on the disk. */
#include "daemon/denials.h"

#include <assert.h>
#include <event2/event.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/map.h"
#include "core/audit.h"
#include "core/policy_words.h"
#include "daemon/daemon.h"
#include "daemon/request.h"
#include "daemon/turn.h"

#define DENIALS_RETRY_MS 1000

struct denial_id {
	uid_t uid;
	char event[32];
	char profile[PROFILE_NAME_MAX];
};

struct denial {
	struct denial_id id;
	struct peer peer;
	char why[AUDIT_DETAIL_MAX];
	int64_t count;	 /* since the row was written */
	int64_t writing; /* that are on their way to the disk */
	int64_t ends_at_ms;
	UT_hash_handle hh;
};

struct denials {
	struct daemon *d;
	struct denial *by_id;
	struct event *timer;
};

/* Carries a row through the commit. */
struct denial_report {
	struct denials *denials;
	struct denial_id id;
	struct request *request; /* NULL: a row with a count */
	char message[512];
};

static struct denial *denials_find(const struct denials *denials, const struct denial_id *id)
{
	struct denial *x;

	HASH_FIND(hh, denials->by_id, id, sizeof(*id), x);
	return x;
}

static void denials_forget(struct denials *denials, struct denial *x)
{
	assert(denials->by_id); /* it holds x; clang-tidy cannot see that */
	HASH_DEL(denials->by_id, x);
	free(x);
}

/* For the end that comes first; what is overdue could not be written, and is tried again. */
static void denials_arm(struct denials *denials)
{
	int64_t now = clock_now().boot_ms, wait = INT64_MAX;
	struct timeval tv;

	for (const struct denial *x = denials->by_id; x; x = x->hh.next)
		wait = MIN_OF(wait, x->ends_at_ms > now ? x->ends_at_ms - now : DENIALS_RETRY_MS);
	if (wait == INT64_MAX)
		return;
	tv = (struct timeval){ .tv_sec = wait / 1000, .tv_usec = wait % 1000 * 1000 };
	(void)evtimer_add(denials->timer, &tv); /* fails only without memory */
}

static void denials_counted(struct denials *denials, const struct denial_report *report,
			    int outcome)
{
	struct denial *x = denials_find(denials, &report->id);

	assert(x); /* it stays as long as it is writing */
	if (outcome != 0)
		x->count += x->writing;
	x->writing = 0;
	if (x->count == 0 && x->ends_at_ms <= clock_now().boot_ms)
		denials_forget(denials, x);
	denials_arm(denials);
}

static void denials_stored(void *userdata, int outcome)
{
	struct denial_report *report = userdata;
	char why[TURN_WHY_SIZE];
	struct denial *x;

	if (!report->request) {
		denials_counted(report->denials, report, outcome);
	} else if (outcome == 0) {
		request_fail(report->request, PROTO_DENIED, -1, "%s", report->message);
	} else {
		x = denials_find(report->denials, &report->id);
		if (x)
			x->ends_at_ms = 0; /* no row: the next denial is the first */
		request_fail(report->request, PROTO_AUDIT_UNAVAILABLE, 1000, "%s",
			     turn_why(outcome, "denied, and that", why));
	}
	free(report);
}

/* A row of it; `r` NULL: with the count. */
static void denials_submit(struct denials *denials, struct denial *x, struct request *r,
			   const char *message)
{
	struct denial_report *report = xcalloc(1, sizeof(*report));
	struct change *c = change_new(denials->d->turn, denials_stored, report);
	struct audit_row *a = change_audit(c, x->id.event, "denied", &x->peer);

	report->denials = denials;
	report->id = x->id;
	report->request = r;
	(void)snprintf(report->message, sizeof(report->message), "%s", message);
	(void)snprintf(a->profile, sizeof(a->profile), "%s", x->id.profile);
	if (r)
		(void)snprintf(a->detail, sizeof(a->detail), "%s", x->why);
	else
		(void)snprintf(a->detail, sizeof(a->detail), "%lld more within a minute",
			       (long long)x->writing);
	change_submit(c);
}

static void denials_write_count(struct denials *denials, struct denial *x)
{
	if (x->count == 0 || x->writing)
		return;
	x->writing = x->count;
	x->count = 0;
	denials_submit(denials, x, NULL, "");
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
		if (!x->writing)
			denials_forget(denials, x);
	}
	denials_arm(denials);
}

struct denials *denials_new(struct daemon *d)
{
	struct denials *denials = xcalloc(1, sizeof(*denials));

	denials->d = d;
	denials->timer = evtimer_new(d->base, denials_on_timer, denials);
	if (!denials->timer)
		abort();
	return denials;
}

void denials_free(struct denials *denials)
{
	struct denial *x, *next;

	if (!denials)
		return;
	HASH_ITER (hh, denials->by_id, x, next)
		denials_forget(denials, x);
	event_free(denials->timer);
	free(denials);
}

void denials_flush(struct daemon *d)
{
	struct denial *x, *next;

	HASH_ITER (hh, d->denials->by_id, x, next)
		denials_write_count(d->denials, x);
}

static struct denial *denials_entry(struct denials *denials, uid_t uid, const struct denied *what)
{
	struct denial_id id;
	struct denial *x;

	memset(&id, 0, sizeof(id)); /* hashed with its padding */
	id.uid = uid;
	(void)snprintf(id.event, sizeof(id.event), "%s", what->event);
	(void)snprintf(id.profile, sizeof(id.profile), "%s", what->profile);
	x = denials_find(denials, &id);
	if (x)
		return x;
	x = xcalloc(1, sizeof(*x));
	x->id = id;
	HASH_ADD(hh, denials->by_id, id, sizeof(id), x);
	return x;
}

void denials_answer(struct daemon *d, struct request *r, const struct denied *what, const char *fmt,
		    ...)
{
	struct denial *x = denials_entry(d->denials, request_peer(r)->uid, what);
	int64_t now = clock_now().boot_ms;
	char message[512];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(message, sizeof(message), fmt, ap); /* what does not fit is cut */
	va_end(ap);
	if (x->ends_at_ms > now) {
		x->count++;
		request_fail(r, PROTO_DENIED, -1, "%s", message);
		return;
	}
	denials_write_count(d->denials,
			    x); /* of the minute before, that the timer has yet to see */
	x->peer = *request_peer(r);
	(void)snprintf(x->why, sizeof(x->why), "%s", what->why);
	x->ends_at_ms = now + d->config->timing.denial_window_ms;
	denials_submit(d->denials, x, r, message);
	denials_arm(d->denials);
}

void denials_by_rule(struct daemon *d, struct request *r, const char *event, const char *profile)
{
	char why[AUDIT_DETAIL_MAX], sees[400];
	const struct denied what = { event, profile, why };

	policy_words_denied(d->config, request_peer(r), profile, why, sizeof(why));
	policy_words_peer(request_peer(r), sees, sizeof(sees));
	denials_answer(d, r, &what,
		       "no rule allows profile %s to %s; `keybroker explain %s` shows why not, the "
		       "administrator adds a rule",
		       profile, sees, profile);
}
