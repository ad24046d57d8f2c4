/* `audit_read` and `reload`. A reading of the audit is itself in the audit. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "daemon/daemon.h"
#include "daemon/op.h"
#include "daemon/op_map.h"
#include "daemon/turn.h"
#include "io/store.h"
#include "io/store_rows.h"

struct op_audit_params {
	int64_t after, limit;
};

static const struct op_param op_audit_params[] = {
	{ "after", OP_INT, false, offsetof(struct op_audit_params, after), 0, INT64_MAX },
	{ "limit", OP_INT, false, offsetof(struct op_audit_params, limit), 1, 50 },
};

/* Its reply: the rows as they are packed. */
struct op_audit_page {
	struct request *r;
	struct buf rows;
	size_t n;
	int64_t last;
	bool more;
};

/* A page must fit a reply whatever the rows hold; a row is at most about 2.2 KiB. */
#define OP_AUDIT_PAGE_BYTES (56 * 1024)

static int op_audit_row(const struct audit_row *row, void *userdata)
{
	struct op_audit_page *page = userdata;
	char hash[2 * HASH_SIZE + 1];
	struct op_map m = { 0 };

	if (page->rows.len > OP_AUDIT_PAGE_BYTES) {
		page->more = true;
		return 1;
	}
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
	page->n++;
	page->last = (int64_t)row->sequence;
	return op_map_end(&m, &page->rows);
}

static void op_audit_stored(void *userdata, int outcome)
{
	struct op_audit_page *page = userdata;
	struct op_map m = { 0 };
	int r;

	if (outcome != 0) {
		request_fail(page->r, PROTO_AUDIT_UNAVAILABLE, 1000,
			     "the reading cannot be recorded now");
	} else {
		op_map_name(&m, "rows");
		m.r = m.r < 0 ? m.r : pack_array(&m.pairs, page->n);
		r = buf_append(&m.pairs, page->rows.data, page->rows.len);
		m.r = m.r < 0 ? m.r : r;
		if (page->more)
			op_map_int(&m, "next", page->last);
		request_send(page->r, op_map_end(&m, request_reply(page->r)));
	}
	buf_deinit(&page->rows);
	free(page);
}

void op_audit_read(struct daemon *d, struct request *r)
{
	struct op_audit_params p = { .limit = 50 };
	struct op_audit_page *page;
	struct audit_row *a;
	struct change *c;
	uint8_t hash[HASH_SIZE];
	uint64_t head;
	int n;

	if (!op_read(r, op_audit_params, ARRAY_SIZE(op_audit_params), &p))
		return;
	page = xcalloc(1, sizeof(*page));
	page->r = r;
	page->last = p.after;
	n = store_each_audit(d->store, (uint64_t)p.after, (size_t)p.limit, op_audit_row, page);
	store_audit_head(d->store, &head, hash);
	page->more = page->n > 0 && (uint64_t)page->last < head;
	if (n < 0) {
		request_fail(r, PROTO_INTERNAL, -1,
			     "the audit cannot be read; the broker's log says why");
		buf_deinit(&page->rows);
		free(page);
		return;
	}
	c = change_new(d->turn, op_audit_stored, page);
	a = change_audit(c, "audit_read", "ok", request_peer(r));
	(void)snprintf(a->detail, sizeof(a->detail), "%zu rows after %lld", page->n,
		       (long long)p.after);
	change_submit(c);
}

struct op_reloaded {
	struct daemon *d;
	struct request *r;
};

static void op_reloaded(void *userdata, int outcome)
{
	struct op_reloaded *done = userdata;
	struct op_map m = { 0 };

	if (outcome != 0) {
		request_fail(done->r, PROTO_AUDIT_UNAVAILABLE, 1000,
			     "reloaded, and that cannot be recorded now");
	} else {
		op_map_int(&m, "profiles", (int64_t)done->d->config->n_profiles);
		op_map_int(&m, "rules", (int64_t)done->d->config->n_rules);
		request_send(done->r, op_map_end(&m, request_reply(done->r)));
	}
	free(done);
}

void op_reload(struct daemon *d, struct request *r)
{
	char error[CONFIG_ERROR_SIZE];
	struct op_reloaded *done;
	struct change *c;

	if (!daemon_reload(d, error)) {
		request_fail(r, PROTO_INVALID_REQUEST, -1, "the old configuration stays: %s",
			     error);
		return;
	}
	done = xcalloc(1, sizeof(*done));
	*done = (struct op_reloaded){ .d = d, .r = r };
	c = change_new(d->turn, op_reloaded, done);
	(void)change_audit(c, "reload", "ok", request_peer(r)); /* nothing to add to it */
	change_submit(c);
}
