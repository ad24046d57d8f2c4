/* Reads an acquire, and decides whether this peer may have what it asks for. */
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/text.h"
#include "core/policy.h"
#include "daemon/account.h"
#include "daemon/acquire.h"
#include "daemon/daemon.h"
#include "daemon/denials.h"
#include "daemon/leases.h"
#include "daemon/op.h"
#include "daemon/turn.h"
#include "io/ancestor.h"

#define OP_TIMEOUT_MAX_MS 600000
#define OP_TTL_MIN_MS 1000
#define OP_YEARS_MS INT64_C(3153600000000) /* a hundred years: no honest wish is longer */

struct acquire_params {
	const char *profile, *lease, *bind, *request_id;
	bool refreshable, for_pid;
	int64_t ttl_ms, min_valid_ms, timeout_ms;
	struct holder_id holder; /* not a param: the process that it is for */
};

#define PARAM(name, type, min, max)                                                 \
	{                                                                           \
#name, type, false, offsetof(struct acquire_params, name), min, max \
	}
static const struct op_param acquire_params[] = {
	PARAM(profile, OP_TEXT, 1, PROFILE_NAME_MAX - 1),
	PARAM(lease, OP_TEXT, 1, ID_SIZE - 1),
	PARAM(bind, OP_TEXT, 1, 16),
	PARAM(request_id, OP_TEXT, 1, REQUEST_ID_MAX - 1),
	PARAM(refreshable, OP_BOOL, 0, 0),
	PARAM(for_pid, OP_BOOL, 0, 0),
	PARAM(ttl_ms, OP_INT, OP_TTL_MIN_MS, OP_YEARS_MS),
	PARAM(min_valid_ms, OP_INT, 0, OP_YEARS_MS),
	PARAM(timeout_ms, OP_INT, 1, OP_TIMEOUT_MAX_MS),
};
#undef PARAM

static bool op_acquire_is_printable(const char *text)
{
	for (; *text; text++)
		if (*text <= ' ' || *text > '~')
			return false;
	return true;
}

/* What does not fit together. NULL if all is well. */
static const char *op_acquire_error(const struct acquire_params *p)
{
	int bind = lease_bind_from_name(p->bind);

	if (bind < 0)
		return "bind must be process, connection or ttl";
	if (p->ttl_ms >= 0 && bind != LEASE_TTL)
		return "ttl_ms goes with bind = ttl";
	if (p->for_pid && (bind != LEASE_PROCESS || p->lease))
		return "for_pid goes with bind = process and a new lease";
	if (p->lease && p->profile)
		return "profile and lease don't go together: a lease has its profile";
	if (!op_acquire_is_printable(p->request_id))
		return "request_id must be printable ASCII without spaces";
	return NULL;
}

int64_t op_ttl_ms(const struct daemon *d, const struct rule *rule, int64_t wanted_ms)
{
	const struct timing *t = &d->config->timing;
	int64_t cap =
		rule->ttl_cap_ms > 0 ? MIN_OF(rule->ttl_cap_ms, t->ttl_max_ms) : t->ttl_max_ms;

	return MIN_OF(wanted_ms >= 0 ? wanted_ms : t->ttl_default_ms, cap);
}

/* The process that the lease is for: the caller, or the one whose pidfd came with the request.
 * False: the request was ended. */
static bool op_acquire_find_holder(struct daemon *d, struct request *r, struct acquire_params *p,
				   const char *profile, int *ret_fd)
{
	static const char *const refusals[] = {
		[ANCESTOR_GONE] = "the process of for_pid has ended",
		[ANCESTOR_UNSEEN] =
			"the process of for_pid cannot be seen (another pid namespace, hidepid)",
		[ANCESTOR_OTHER_UID] = "the process of for_pid is not of the caller's uid",
		[ANCESTOR_NO] = "the process of for_pid is not an ancestor of the caller",
	};
	const struct peer *peer = request_peer(r);
	_cleanup_(fd_close) int fd = p->for_pid ? request_take_passed(r) : -1;
	enum ancestor a;
	pid_t pid;

	p->holder = (struct holder_id){ .pid = peer->pid, .start = peer->start_time };
	if (!p->for_pid)
		return true;
	a = ancestor_check(peer, request_pidfd(r), fd, &pid, &p->holder.start);
	if (a == ANCESTOR_NO_PIDFD) {
		request_fail(r, PROTO_INVALID_REQUEST, -1,
			     "for_pid needs a pidfd, sent with the request (SCM_RIGHTS)");
	} else if (a != ANCESTOR_YES) {
		const struct denied what = { "acquire", profile, refusals[a] };

		denials_answer(d, r, &what, "%s", refusals[a]);
	} else {
		p->holder.pid = pid;
		*ret_fd = take_fd(&fd);
	}
	return a == ANCESTOR_YES;
}

static void acquire_follow_rule(struct acquire *a, const struct profile *p, const struct rule *rule)
{
	const struct config *c = a->d->config;

	a->max_leases = rule->max_leases >= 0 ? rule->max_leases : c->max_leases;
	a->ttl_ms = op_ttl_ms(a->d, rule, a->ttl_ms);
	free(a->base_url);
	a->base_url = config_base_url(c, p, rule);
	text_copy(a->rule, sizeof(a->rule), rule->name);
}

/* The process may have ended since it asked, and left its connection to a child. False: the acquire
 * was ended. */
static bool acquire_is_undoubted(struct acquire *a)
{
	const char *doubt = request_doubt(a->request);
	const struct denied what = { "acquire", a->profile, doubt };

	if (!doubt)
		return true;
	denials_answer(a->d, a->request, &what,
		       "%s: connect again from the process that wants to be served", doubt);
	acquire_done(a);
	return false;
}

bool acquire_is_allowed(struct acquire *a, const struct key *key)
{
	const struct config *c = a->d->config;
	struct verdict v = policy_check(c, request_peer(a->request), a->profile);
	const struct profile *p = config_profile(c, a->profile);

	if (!acquire_is_undoubted(a))
		return false;
	if (!p) {
		acquire_fail(a, PROTO_UNKNOWN_PROFILE, -1, "the profile is no longer configured");
		return false;
	}
	if (!v.allowed) {
		denials_by_rule(a->d, a->request, "acquire", a->profile);
		acquire_done(a);
		return false;
	}
	if ((key != NULL) == (p->mode == PROFILE_STATIC)) {
		acquire_fail(a, a->reread ? PROTO_UNKNOWN_LEASE : PROTO_UPSTREAM_UNAVAILABLE,
			     a->reread ? -1 : 100, "the profile has other keys now; acquire anew");
		return false;
	}
	acquire_follow_rule(a, p, v.rule);
	return true;
}

static struct acquire *op_acquire_new(struct daemon *d, struct request *r,
				      const struct acquire_params *p, const struct profile *profile,
				      const struct rule *rule)
{
	const struct timing *t = &d->config->timing;
	struct acquire *a = xcalloc(1, sizeof(*a));
	int64_t life = profile->duration_ms ? profile->duration_ms : INT64_MAX;

	a->d = d;
	a->request = r;
	a->bind = (enum lease_bind)lease_bind_from_name(p->bind);
	a->refreshable = p->refreshable;
	a->holder = p->holder;
	a->holder_fd = -1;
	a->ttl_ms = p->ttl_ms >= 0 ? p->ttl_ms : t->ttl_default_ms;
	a->min_valid_asked = p->min_valid_ms >= 0;
	a->min_valid_ms = a->min_valid_asked ? p->min_valid_ms : MIN_OF(t->min_valid_ms, life / 3);
	a->deadline_ms =
		clock_now().boot_ms + (p->timeout_ms >= 0 ? p->timeout_ms : t->acquire_wait_ms);
	text_copy(a->profile, sizeof(a->profile), profile->name);
	text_copy(a->request_id, sizeof(a->request_id), p->request_id);
	acquire_follow_rule(a, profile, rule);
	return a;
}

/* Does the uid still have room for this? Ends the request if not. */
static bool op_acquire_has_room(struct daemon *d, struct request *r, const struct profile *profile,
				const struct rule *rule, bool watched)
{
	struct account *account = request_account(r);
	int64_t leases = rule->max_leases >= 0 ? rule->max_leases : d->config->max_leases;
	bool own = rule->mints_per_minute >= 0;
	int64_t mints = own ? rule->mints_per_minute : d->config->mints_per_minute;
	int64_t wait = 1000;

	if (account->leases >= leases) {
		request_fail(r, PROTO_LIMIT_EXCEEDED, wait,
			     "uid %u holds %lld leases, as many as it may", account->uid,
			     (long long)account->leases);
		return false;
	}
	if (watched && !account_may_hold(d->accounts, account, 1)) {
		request_fail(
			r, PROTO_LIMIT_EXCEEDED, wait,
			"uid %u has its share of the descriptors that the broker may open: end some of its processes or connections, or use a TTL lease",
			account->uid);
		return false;
	}
	if (profile->mode == PROFILE_DEDICATED &&
	    !account_take_mint(account, own ? rule->name : NULL, mints, clock_now().boot_ms,
			       &wait)) {
		request_fail(r, PROTO_LIMIT_EXCEEDED, wait,
			     "uid %u has had its %lld new keys of this minute", account->uid,
			     (long long)mints);
		return false;
	}
	return true;
}

/* A repeat of an acquire whose reply was lost, or a re-read: the lease that is already there. */
static struct lease *op_acquire_lease(struct daemon *d, struct request *r,
				      const struct acquire_params *p, const char *profile)
{
	struct lease *l;

	if (p->lease) {
		l = leases_find(d->leases, p->lease);
		return l && lease_is_of(l, request_peer(r)) ? l : NULL;
	}
	return p->request_id[0] ? leases_find_request(d->leases, request_peer(r), p->holder,
						      profile, p->request_id)
				: NULL;
}

static void op_acquire_checked(struct daemon *d, struct request *r, struct acquire_params *p,
			       const struct profile *profile)
{
	struct verdict v = policy_check(d->config, request_peer(r), profile->name);
	_cleanup_(fd_close) int holder_fd = -1;
	struct acquire *a;
	struct lease *l;
	char why[TURN_WHY_SIZE];

	if (!v.allowed) {
		denials_by_rule(d, r, "acquire", profile->name);
		return;
	}
	if (!op_acquire_find_holder(d, r, p, profile->name, &holder_fd))
		return;
	l = op_acquire_lease(d, r, p, profile->name);
	if (profile->duration_ms && p->min_valid_ms > profile->duration_ms) {
		request_fail(
			r, PROTO_INVALID_REQUEST, -1,
			"no key of this profile lives that long: min_valid_ms (--min-valid) is over "
			"their duration, %s",
			profile->duration);
		return;
	}
	if (l && !p->lease &&
	    ((int)l->row.bind != lease_bind_from_name(p->bind) ||
	     l->row.refreshable != p->refreshable)) {
		request_fail(r, PROTO_INVALID_REQUEST, -1,
			     "this request_id named another acquire: bind or refreshable differs");
		return;
	}
	if (!l && daemon_is_short(d)) {
		request_fail(r, PROTO_AUDIT_UNAVAILABLE, 1000, "%s",
			     turn_why(STORE_E_FULL, "the access", why));
		return;
	}
	if (!l && !op_acquire_has_room(d, r, profile, v.rule,
				       lease_bind_from_name(p->bind) == LEASE_PROCESS))
		return;
	a = op_acquire_new(d, r, p, profile, v.rule);
	if (!l && holder_fd >= 0) { /* an old lease's process is watched already */
		a->holder_fd = take_fd(&holder_fd);
		a->charged =
			account_get(d->accounts, request_peer(r)->uid, request_peer(r)->listen);
		account_hold(d->accounts, a->charged, 1);
	}
	if (l) {
		a->lease = l;
		a->reread = true;
		a->bind = l->row.bind;
		a->ttl_ms = p->lease ? 0 : a->ttl_ms;
		a->taken_up = lease_take_up(l, r);
	}
	acquire_start(a, profile);
}

void op_acquire(struct daemon *d, struct request *r)
{
	struct acquire_params p = { .bind = "process",
				    .request_id = "",
				    .refreshable = true,
				    .ttl_ms = -1,
				    .min_valid_ms = -1,
				    .timeout_ms = -1 };
	const struct profile *profile;
	const char *error;
	struct lease *l;

	if (!op_read(r, acquire_params, ARRAY_SIZE(acquire_params), &p))
		return;
	error = op_acquire_error(&p);
	if (error) {
		request_fail(r, PROTO_INVALID_REQUEST, -1, "%s", error);
		return;
	}
	l = p.lease ? op_acquire_lease(d, r, &p, NULL) : NULL;
	if (p.lease && !l) {
		request_fail(r, PROTO_UNKNOWN_LEASE, -1, "no such lease of yours, or it has ended");
		return;
	}
	if (l && lease_is_stale(l)) {
		request_fail(r, PROTO_UNKNOWN_LEASE, -1,
			     "the profile of this lease has other keys now; acquire a new one");
		return;
	}
	if (l)
		p.profile = l->row.profile;
	else if (!p.profile)
		p.profile = "service";
	profile = config_profile(d->config, p.profile);
	if (profile)
		op_acquire_checked(d, r, &p, profile);
	else
		request_fail(r, PROTO_UNKNOWN_PROFILE, -1,
			     "no profile is called \"%s\"; `keybroker list` shows those there are",
			     p.profile);
}
