/* Readers of the audit, in turn. A page's row in the audit is written when it is complete, a
 * follower's before it begins; only then is anything sent. */
#include "daemon/readers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "daemon/audit_query.h"
#include "daemon/daemon.h"
#include "daemon/op.h"
#include "daemon/op_map.h"
#include "daemon/turn.h"
#include "io/store.h"
#include "io/store_rows.h"

/* Of one turn, all readers together: 1 or 2 ms. */
#define READERS_SCAN 2000 /* rows looked at */
#define READERS_ROWS 256  /* rows packed */

#define READERS_PAGE_BYTES (60 * 1024)	 /* of a reply's 64 KiB */
#define READERS_FOLLOW_BYTES (16 * 1024) /* at most, that wait for a follower's peer */

struct reader {
	TAILQ_ENTRY(reader) of_all;
	struct readers *readers;
	struct request *request; /* its texts are the query's */
	struct audit_query query;
	bool follows;
	struct audit_scan scan; /* a page: until the last row when it was asked for */
	int64_t due_ms;		/* a page: boot time at which it is sent as it is */
	size_t room;		/* bytes that `rows` may take */
	size_t n;		/* rows in `rows` */
	struct buf rows;
};
TAILQ_HEAD(reader_list, reader);

struct readers {
	struct daemon *d;
	struct reader_list list; /* who was served last stands last */
	size_t n;
	size_t scan, rows; /* what is left of the turn */
	bool busy;
};

struct readers *readers_new(struct daemon *d)
{
	struct readers *rs = xcalloc(1, sizeof(*rs));

	rs->d = d;
	TAILQ_INIT(&rs->list);
	return rs;
}

static struct reader *reader_new(struct readers *rs, struct request *r)
{
	struct reader *x = xcalloc(1, sizeof(*x));

	x->readers = rs;
	x->request = r;
	return x;
}

static void reader_free(struct reader *x)
{
	buf_deinit(&x->rows);
	free(x);
}

static void reader_leave(struct reader *x)
{
	TAILQ_REMOVE(&x->readers->list, x, of_all);
	x->readers->n--;
	x->request->gone = NULL;
}

/* The peer has gone. */
static void reader_gone(struct request *r)
{
	struct reader *x = r->waiting_for;

	reader_leave(x);
	reader_free(x);
	request_free(r);
}

static void reader_join(struct reader *x)
{
	x->request->gone = reader_gone;
	x->request->waiting_for = x;
	TAILQ_INSERT_TAIL(&x->readers->list, x, of_all);
	x->readers->n++;
}

static void reader_fail(struct reader *x, enum proto_error code, int64_t retry_ms, const char *what,
			const char *why)
{
	struct request *r = x->request;

	reader_leave(x);
	reader_free(x);
	request_fail(r, code, retry_ms, "%s%s", what, why);
}

void readers_free(struct readers *rs)
{
	struct reader *x;

	if (!rs)
		return;
	while ((x = TAILQ_FIRST(&rs->list))) {
		struct request *r = x->request;

		reader_leave(x);
		reader_free(x);
		request_free(r);
	}
	free(rs);
}

void readers_stop(struct readers *rs)
{
	struct reader *x, *next;

	for (x = TAILQ_FIRST(&rs->list); x; x = next) {
		next = TAILQ_NEXT(x, of_all);
		if (!x->follows)
			reader_fail(x, PROTO_NOT_LEADER, 100, "this broker is stopping; ask again",
				    "");
	}
}

static uint64_t readers_head(const struct readers *rs)
{
	uint8_t hash[HASH_SIZE];
	uint64_t head;

	store_audit_head(rs->d->store, &head, hash);
	return head;
}

/* --- one step of any of them --- */

static bool reader_found(const struct audit_row *row, void *userdata)
{
	struct reader *x = userdata;
	int r = x->follows ? pack_notification(&x->rows, "audit") : 0;

	r = r < 0 ? r : audit_query_pack(row, &x->rows);
	if (r < 0)
		abort(); /* there is room; so memory is gone */
	x->n++;
	x->readers->rows--;
	return x->readers->rows > 0 && x->rows.len + AUDIT_QUERY_ROW_MAX <= x->room &&
	       (x->follows || x->n < (size_t)x->query.limit);
}

static int reader_search(struct reader *x)
{
	struct readers *rs = x->readers;
	int r;

	x->scan.rows = rs->scan;
	r = store_find_audit(rs->d->store, &x->query.filter, &x->scan, reader_found, x);
	rs->scan = x->scan.rows;
	return r;
}

/* --- pages --- */

static int reader_pack_page(struct reader *x, struct buf *b)
{
	struct op_map m = { 0 };
	int r;

	op_map_name(&m, "rows");
	m.r = m.r < 0 ? m.r : pack_array(&m.pairs, x->n);
	r = buf_append(&m.pairs, x->rows.data, x->rows.len);
	m.r = m.r < 0 ? m.r : r;
	if (x->scan.at < x->scan.until)
		op_map_int(&m, "next", (int64_t)x->scan.at);
	return op_map_end(&m, b);
}

static void reader_page_stored(void *userdata, int outcome)
{
	struct reader *x = userdata;
	struct request *r = x->request;
	char why[TURN_WHY_SIZE];

	if (outcome != 0)
		request_fail(r, PROTO_AUDIT_UNAVAILABLE, 1000, "%s",
			     turn_why(outcome, "the reading", why));
	else
		request_send(r, reader_pack_page(x, request_reply(r)));
	reader_free(x);
}

static void reader_page_done(struct reader *x)
{
	struct change *c = change_new(x->readers->d->turn, reader_page_stored, x);
	struct audit_row *a = change_audit(c, "audit_read", "ok", request_peer(x->request));
	char asked[AUDIT_DETAIL_MAX - 64];

	reader_leave(x);
	audit_query_describe(&x->query, asked, sizeof(asked));
	(void)snprintf(a->detail, sizeof(a->detail), "%zu rows after %lld%s", x->n,
		       (long long)MAX_OF(x->query.after, 0), asked);
	change_submit(c);
}

/* True: there is more to be done for it at once. */
static bool reader_page_step(struct reader *x)
{
	int r;

	x->room = READERS_PAGE_BYTES;
	r = reader_search(x);
	if (r < 0)
		reader_fail(x, PROTO_INTERNAL, -1,
			    "the audit cannot be read; the broker's log says why", "");
	else if (r > 0)
		reader_fail(x, PROTO_AUDIT_UNAVAILABLE, 1000,
			    "the audit cannot be read now: ", turn_reason(r));
	else if (x->scan.at >= x->scan.until || x->n >= (size_t)x->query.limit ||
		 x->rows.len + AUDIT_QUERY_ROW_MAX > x->room || clock_now().boot_ms >= x->due_ms)
		reader_page_done(x);
	else
		return true;
	return false;
}

void op_audit_read(struct daemon *d, struct request *r)
{
	struct readers *rs = d->readers;
	struct reader *x = reader_new(rs, r);

	if (!audit_query_read(d, r, &x->query)) {
		reader_free(x);
		return;
	}
	x->scan.at = (uint64_t)MAX_OF(x->query.after, 0);
	x->scan.until = readers_head(rs);
	x->due_ms = clock_now().boot_ms + d->config->timing.audit_page_ms;
	reader_join(x);
}

/* --- followers --- */

/* True: there is more to be done for it at once. */
static bool reader_follow_step(struct reader *x)
{
	int r;

	x->scan.until = readers_head(x->readers);
	x->room = MIN_OF(request_room(x->request), (size_t)READERS_FOLLOW_BYTES);
	if (x->scan.at >= x->scan.until || x->room < READERS_FOLLOW_BYTES)
		return false;
	r = reader_search(x);
	if (r < 0)
		request_hang_up(x->request);
	else if (x->rows.len > 0)
		request_notify(x->request, &x->rows);
	buf_deinit(&x->rows);
	x->n = 0;
	return r == 0 && x->scan.at < x->scan.until;
}

static void reader_follow_reply(struct reader *x)
{
	struct op_map m = { 0 };

	op_map_int(&m, "after", (int64_t)x->scan.at);
	if (op_map_end(&m, request_reply(x->request)) < 0)
		abort(); /* a few bytes: memory is gone */
	reader_join(x);
	request_answer(x->request);
}

static void reader_follow_stored(void *userdata, int outcome)
{
	struct reader *x = userdata;
	struct request *r = x->request;
	char why[TURN_WHY_SIZE];

	if (outcome == 0 && request_alive(r)) {
		reader_follow_reply(x);
		return;
	}
	reader_free(x);
	if (outcome == 0)
		request_free(r);
	else
		request_fail(r, PROTO_AUDIT_UNAVAILABLE, 1000, "%s",
			     turn_why(outcome, "the reading", why));
}

static void reader_follow_begin(struct reader *x)
{
	struct change *c = change_new(x->readers->d->turn, reader_follow_stored, x);
	struct audit_row *a = change_audit(c, "audit_follow", "ok", request_peer(x->request));
	char asked[AUDIT_DETAIL_MAX - 64];

	audit_query_describe(&x->query, asked, sizeof(asked));
	(void)snprintf(a->detail, sizeof(a->detail), "rows after %llu%s",
		       (unsigned long long)x->scan.at, asked);
	change_submit(c);
}

void op_audit_follow(struct daemon *d, struct request *r)
{
	struct reader *x = reader_new(d->readers, r);
	uint64_t head = readers_head(d->readers);

	if (!audit_query_read(d, r, &x->query)) {
		reader_free(x);
		return;
	}
	x->follows = true;
	x->scan.at = x->query.after < 0 ? head : (uint64_t)x->query.after;
	if (x->scan.at <= head && request_subscribe(r)) {
		reader_follow_begin(x);
		return;
	}
	if (x->scan.at > head)
		request_fail(r, PROTO_INVALID_REQUEST, -1,
			     "after is %llu, but the last row is %llu: another state, or rows were "
			     "lost in a power cut",
			     (unsigned long long)x->scan.at, (unsigned long long)head);
	else
		request_fail(r, PROTO_INVALID_REQUEST, -1,
			     "this connection follows or watches already");
	reader_free(x);
}

/* --- all --- */

void readers_run(struct readers *rs)
{
	struct reader *x;

	rs->scan = READERS_SCAN;
	rs->rows = READERS_ROWS;
	rs->busy = false;
	for (size_t n = rs->n; n > 0; n--) {
		if (rs->scan == 0 || rs->rows == 0) {
			rs->busy = true;
			return;
		}
		x = TAILQ_FIRST(&rs->list);
		TAILQ_REMOVE(&rs->list, x, of_all);
		TAILQ_INSERT_TAIL(&rs->list, x, of_all);
		rs->busy |= x->follows ? reader_follow_step(x) : reader_page_step(x);
	}
}

bool readers_are_busy(const struct readers *rs)
{
	return rs->busy;
}
