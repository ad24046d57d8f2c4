/* The params of audit_read and audit_follow, checked and turned into a filter. */
#include "daemon/audit_query.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/macros.h"
#include "daemon/daemon.h"
#include "daemon/op.h"
#include "daemon/op_map.h"

struct audit_query_params {
	int64_t after, limit, since_at_ms, until_at_ms, uid;
	const char *unit, *profile, *lease, *event, *outcome, *key_hash;
};

#define PARAM(name, type, min, max)                                                     \
	{                                                                               \
#name, type, false, offsetof(struct audit_query_params, name), min, max \
	}
#define PARAM_TEXT(name) PARAM(name, OP_TEXT, 1, sizeof(((struct audit_row *)0)->name) - 1)
static const struct op_param audit_query_params[] = {
	PARAM(after, OP_INT, 0, INT64_MAX),
	PARAM(limit, OP_INT, 1, AUDIT_QUERY_PAGE_ROWS),
	PARAM(since_at_ms, OP_INT, 0, INT64_MAX),
	PARAM(until_at_ms, OP_INT, 0, INT64_MAX),
	PARAM(uid, OP_INT, 0, UINT32_MAX),
	PARAM_TEXT(unit),
	PARAM_TEXT(profile),
	PARAM_TEXT(lease),
	PARAM_TEXT(event),
	PARAM_TEXT(outcome),
	PARAM(key_hash, OP_TEXT, SHA256_HEX_SIZE - 1, SHA256_HEX_SIZE - 1),
};
#undef PARAM
#undef PARAM_TEXT

/* They go into the audit themselves: in words that no reader stumbles over. */
static bool audit_query_is_plain(const struct audit_query_params *p, const char **ret_name)
{
	const struct {
		const char *name, *text;
	} texts[] = { { "unit", p->unit },
		      { "profile", p->profile },
		      { "lease", p->lease },
		      { "event", p->event },
		      { "outcome", p->outcome } };

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		*ret_name = texts[i].name;
		for (const char *c = texts[i].text; c && *c; c++)
			if (*c <= ' ' || *c > '~')
				return false;
	}
	return true;
}

/* What is wrong with params that are each of their type. */
static bool audit_query_check(struct request *r, const struct audit_query_params *p)
{
	const char *name;

	if (!audit_query_is_plain(p, &name)) {
		request_fail(r, PROTO_INVALID_REQUEST, -1,
			     "%s must be printable ASCII without spaces", name);
		return false;
	}
	if (p->key_hash && strspn(p->key_hash, "0123456789abcdef") != SHA256_HEX_SIZE - 1) {
		request_fail(r, PROTO_INVALID_REQUEST, -1,
			     "key_hash must be the SHA-256 of a key: 64 hex digits in lower case");
		return false;
	}
	return true;
}

bool audit_query_read(struct daemon *d, struct request *r, struct audit_query *ret)
{
	struct audit_query_params p = { .after = -1,
					.limit = AUDIT_QUERY_PAGE_ROWS,
					.since_at_ms = -1,
					.until_at_ms = -1,
					.uid = -1 };

	if (!op_read(r, audit_query_params, ARRAY_SIZE(audit_query_params), &p) ||
	    !audit_query_check(r, &p))
		return false;
	*ret = (struct audit_query){ .after = p.after,
				     .limit = p.limit,
				     .filter = { .since_ms = p.since_at_ms,
						 .until_ms = p.until_at_ms,
						 .uid = p.uid,
						 .unit = p.unit,
						 .profile = p.profile,
						 .lease = p.lease,
						 .event = p.event,
						 .outcome = p.outcome } };
	if (p.key_hash) {
		keyring_tag(d->keyring, p.key_hash, ret->key_tag);
		ret->filter.key_tag = ret->key_tag;
	}
	return true;
}

static void audit_query_time(const char *name, int64_t ms, char *text, size_t size)
{
	time_t seconds = (time_t)(ms / 1000);
	struct tm tm;

	if (ms >= 0 && gmtime_r(&seconds, &tm))
		(void)snprintf(text, size, ", %s %04d-%02d-%02dT%02d:%02d:%02d.%03dZ", name,
			       tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
			       tm.tm_sec, (int)(ms % 1000));
}

/* The tag stands here and not in its column: who looks for a key is not one who had it. */
void audit_query_describe(const struct audit_query *q, char *text, size_t size)
{
	const struct audit_filter *f = &q->filter;
	char since[64] = "", until[64] = "";
	const struct {
		const char *name, *text;
	} texts[] = { { "key_tag", f->key_tag }, { "lease", f->lease },	    { "event", f->event },
		      { "outcome", f->outcome }, { "profile", f->profile }, { "unit", f->unit } };
	size_t n;

	audit_query_time("since", f->since_ms, since, sizeof(since));
	audit_query_time("until", f->until_ms, until, sizeof(until));
	n = (size_t)snprintf(text, size, "%s%s", since, until);
	if (f->uid >= 0 && n < size)
		n += (size_t)snprintf(text + n, size - n, ", uid %lld", (long long)f->uid);
	for (size_t i = 0; i < ARRAY_SIZE(texts) && n < size; i++)
		if (texts[i].text)
			n += (size_t)snprintf(text + n, size - n, ", %s %s", texts[i].name,
					      texts[i].text);
}

int audit_query_pack(const struct audit_row *row, struct buf *b)
{
	char hash[2 * HASH_SIZE + 1];
	struct op_map m = { 0 };

	crypt_hex(row->hash, HASH_SIZE, hash);
	op_map_int(&m, "sequence", (int64_t)row->sequence);
	op_map_int(&m, "wall_ms", row->wall_ms);
	op_map_int(&m, "boot_ms", row->boot_ms);
	op_map_int(&m, "term", (int64_t)row->term);
	op_map_text(&m, "instance", row->instance);
	op_map_text(&m, "event", row->event);
	op_map_text(&m, "outcome", row->outcome);
	op_map_text(&m, "rule", row->rule);
	op_map_text(&m, "profile", row->profile);
	op_map_text(&m, "lease", row->lease);
	if (row->uid >= 0) {
		op_map_int(&m, "uid", row->uid);
		op_map_int(&m, "gid", row->gid);
		op_map_int(&m, "pid", row->pid);
		op_map_int(&m, "start_time", (int64_t)row->start_time);
	}
	op_map_text(&m, "unit", row->unit);
	op_map_text(&m, "exe", row->exe);
	op_map_text(&m, "key_tag", row->key_tag);
	op_map_text(&m, "detail", row->detail);
	op_map_text(&m, "hash", hash);
	return op_map_end(&m, b);
}
