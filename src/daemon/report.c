/* One struct report a key that was ever reported: who waits for upstream's answer, and the last
 * one. */
#include "daemon/report.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "daemon/daemon.h"
#include "daemon/key_work.h"
#include "daemon/keys.h"
#include "daemon/leases.h"
#include "daemon/op.h"
#include "daemon/op_map.h"
#include "daemon/rotation.h"
#include "daemon/turn.h"

/* What a report is answered; the texts are constants. */
struct report_answer {
	const char *state, *why; /* `why` may be NULL */
};

struct report {
	struct upstream_call *call; /* pins the key */
	struct request_list waiting;
	int64_t asked_ms; /* boot time of the last question */
	struct report_answer last;
};

struct op_report_params {
	const char *lease;
	int64_t status;
};

static const struct op_param op_report_params[] = {
	{ "lease", OP_TEXT, true, offsetof(struct op_report_params, lease), 1, ID_SIZE - 1 },
	{ "status", OP_INT, false, offsetof(struct op_report_params, status), 100, 599 },
};

static const struct report_answer report_dead = { "dead", NULL };

static void report_reply(struct request *r, const struct report_answer *a)
{
	struct op_map m = { 0 };

	op_map_text(&m, "lease", value_text(value_get(request_params(r), "lease")));
	op_map_text(&m, "state", a->state);
	op_map_text(&m, "why", a->why);
	request_send(r, op_map_end(&m, request_reply(r)));
}

static struct request *report_leave(struct report *q, struct request *r)
{
	TAILQ_REMOVE(&q->waiting, r, of_waiters);
	r->gone = NULL;
	return r;
}

/* The peer has gone; the others still want to know. */
static void report_gone(struct request *r)
{
	request_free(report_leave(r->waiting_for, r));
}

void report_free(struct report *q)
{
	struct request *r;

	if (!q)
		return;
	if (q->call)
		upstream_cancel(q->call);
	while ((r = TAILQ_FIRST(&q->waiting)))
		request_free(report_leave(q, r));
	free(q);
}

void report_stop(struct key *k)
{
	struct request *r;

	while (k->report && (r = TAILQ_FIRST(&k->report->waiting)))
		request_fail(report_leave(k->report, r), PROTO_NOT_LEADER, 100,
			     "this broker is stopping; ask again");
}

/* Who found it out is on record, in the turn in which the key goes. */
static void report_died(struct key *k, const char *why)
{
	struct change *c = change_new(k->d->turn, NULL, NULL);
	const struct request *first = TAILQ_FIRST(&k->report->waiting);
	struct audit_row *a = change_audit(c, "report", "dead", first ? request_peer(first) : NULL);

	key_describe(k, a);
	if (first)
		text_copy(a->lease, sizeof(a->lease),
			  value_text(value_get(request_params(first), "lease")));
	text_copy(a->detail, sizeof(a->detail), why);
	change_vital(c); /* it is found out, whether or not there is room to say so */
	change_kept(c);
	change_submit(c);
	if (k->row.state == KEY_LIVE)
		key_died(k, why);
	else
		key_kill(k, why);
}

/* A 401, a 5xx and silence prove nothing: LiteLLM answers so while its database is down. */
static struct report_answer report_judge(struct key *k, const struct upstream_answer *a)
{
	static const struct report_answer alive = { "alive", NULL },
					  unknown = { "unknown",
						      "LiteLLM cannot say; nothing is proved" },
					  clocks = {
						  "unknown",
						  "it has expired by LiteLLM's clock, but not by "
						  "this one; nothing is proved"
					  };
	int64_t expires_at_ms = 0;
	const char *death;

	if (k->dead || k->row.state == KEY_DELETED)
		return report_dead; /* revoked meanwhile */
	if (a->litellm.kind != LITELLM_OK && a->litellm.kind != LITELLM_GONE)
		return unknown;
	death = key_death(k, a, &expires_at_ms);
	if (!death)
		return expires_at_ms < 0 ? clocks : alive;
	report_died(k, death);
	return (struct report_answer){ report_dead.state, death };
}

static void report_on_info(void *userdata, struct upstream_answer *a)
{
	struct key *k = userdata;
	struct report *q = k->report;
	struct request *r;

	q->call = NULL;
	q->last = report_judge(k, a);
	while ((r = TAILQ_FIRST(&q->waiting)))
		report_reply(report_leave(q, r), &q->last);
	key_unpin(k);
}

static void report_ask(struct key *k)
{
	struct upstream_question question = { .op = LITELLM_INFO,
					      .text = litellm_info_path(k->row.hash),
					      .party = key_party(k) };
	struct upstream_answer none = { .litellm.kind = LITELLM_UNAVAILABLE };
	int r;

	if (!question.text)
		abort(); /* out of memory */
	k->report->asked_ms = clock_now().boot_ms;
	question.deadline_boot_ms = k->report->asked_ms + 1; /* one attempt: callers wait for it */
	key_pin(k);
	r = upstream_start(k->d->upstream, &question, report_on_info, k, &k->report->call);
	if (r < 0)
		report_on_info(k, &none);
}

static void report_join(struct key *k, struct request *r)
{
	struct report *q = k->report;
	bool asked = q && (q->call || clock_now().boot_ms - q->asked_ms <
					      k->d->config->timing.report_every_ms);

	if (!q) {
		q = xcalloc(1, sizeof(*q));
		TAILQ_INIT(&q->waiting);
		k->report = q;
	}
	if (asked && !q->call) {
		report_reply(r, &q->last);
		return;
	}
	r->gone = report_gone;
	r->waiting_for = q;
	TAILQ_INSERT_TAIL(&q->waiting, r, of_waiters);
	if (!q->call)
		report_ask(k);
}

/* What is known without asking; NULL: it must be asked. */
static const struct report_answer *report_known(const struct lease *l, int64_t status)
{
	static const struct report_answer
		fixed = { "unknown", "the key is not LiteLLM's: nobody here can tell" },
		replaced = { "replaced", "a newer generation is live: acquire with this lease" },
		other = { "unknown", "only a 400, 401 or 403 can be about the key itself" };

	if (!l->key)
		return &fixed;
	if (rotation_behind(l))
		return &replaced;
	if (l->key->dead || l->key->row.state == KEY_DELETED)
		return &report_dead;
	if (!l->d->upstream)
		return &fixed;
	if (status && status != 400 && status != 401 && status != 403)
		return &other;
	return NULL;
}

void op_report(struct daemon *d, struct request *r)
{
	struct op_report_params p = { 0 };
	const struct report_answer *known;
	const struct lease *l;

	if (!op_read(r, op_report_params, ARRAY_SIZE(op_report_params), &p))
		return;
	l = op_lease_of_peer(d, r, p.lease);
	if (!l)
		return;
	known = report_known(l, p.status);
	if (known)
		report_reply(r, known);
	else
		report_join(l->key, r);
}
