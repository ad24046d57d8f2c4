/*
 * What goes before and after a reading of the audit by the program beside the broker: each such
 * reading is a row, and the rows that were exported are known, since a prune asks for them.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "daemon/daemon.h"
#include "daemon/op.h"
#include "daemon/op_map.h"
#include "daemon/turn.h"
#include "io/seal_key.h"
#include "io/store.h"
#include "io/store_audit_prune.h"
#include "io/store_rows.h"

struct op_reading {
	struct daemon *d;
	struct request *r;
	bool is_export;
	uint64_t from, to, exported; /* of an export; to 0: all there is then */
};

/* Where the program finds what it needs, and the head that it must find. */
static void op_reading_reply(const struct op_reading *reading, struct op_map *m)
{
	const struct config *config = reading->d->config;
	_cleanup_(freep) char *seal_key = seal_key_source(config->system_mode);
	uint8_t hash[HASH_SIZE];
	char hex[HASH_HEX_SIZE];
	uint64_t head;

	store_audit_head(reading->d->store, &head, hash);
	crypt_hex(hash, HASH_SIZE, hex);
	op_map_int(m, "sequence", (int64_t)head);
	op_map_text(m, "hash", hex);
	op_map_text(m, "state_dir", config->state_dir);
	op_map_text(m, "seal_key", seal_key);
	if (!reading->is_export)
		return;
	op_map_int(m, "from", (int64_t)reading->from);
	op_map_int(m, "to", (int64_t)(reading->to ? reading->to : head));
	op_map_int(m, "exported", (int64_t)reading->exported);
}

static void op_reading_stored(void *userdata, int outcome)
{
	struct op_reading *reading = userdata;
	char why[TURN_WHY_SIZE];
	struct op_map m = { 0 };

	if (outcome == 0) { /* a head that a power cut could take back proves the wrong thing */
		outcome = store_sync(reading->d->store);
		daemon_mind_store(reading->d, outcome);
	}
	if (store_outcome_is_final(outcome)) {
		request_free(reading->r); /* the process ends */
	} else if (outcome != 0) {
		request_fail(reading->r, PROTO_AUDIT_UNAVAILABLE, 1000, "%s",
			     turn_why(outcome, "the reading", why));
	} else {
		op_reading_reply(reading, &m);
		request_send(reading->r, op_map_end(&m, request_reply(reading->r)));
	}
	free(reading);
}

static void op_reading_submit(const struct op_reading *from, const char *event, const char *detail)
{
	struct op_reading *reading = xcalloc(1, sizeof(*reading));
	struct change *c;
	struct audit_row *a;

	*reading = *from;
	c = change_new(reading->d->turn, op_reading_stored, reading);
	a = change_audit(c, event, "ok", request_peer(reading->r));
	(void)snprintf(a->detail, sizeof(a->detail), "%s", detail);
	change_submit(c);
}

struct op_state_params {
	const char *state_dir;
};

static const struct op_param op_state_params[] = {
	{ "state_dir", OP_TEXT, false, offsetof(struct op_state_params, state_dir), 1, 4095 },
};

/* A state that is not ours is read without a row of ours. */
static bool op_is_our_state(const struct daemon *d, const char *dir)
{
	_cleanup_(freep) char *ours = realpath(d->config->state_dir, NULL);
	_cleanup_(freep) char *theirs = realpath(dir, NULL);

	return ours && theirs && strcmp(ours, theirs) == 0;
}

static void op_read_state(struct daemon *d, struct request *r, const char *event)
{
	const struct op_reading reading = { .d = d, .r = r };
	struct op_state_params p = { NULL };

	if (!op_read(r, op_state_params, ARRAY_SIZE(op_state_params), &p))
		return;
	if (p.state_dir && !op_is_our_state(d, p.state_dir))
		request_fail(r, PROTO_INVALID_REQUEST, -1, "the state of this broker is in %s",
			     d->config->state_dir);
	else
		op_reading_submit(&reading, event, "");
}

void op_audit_verify(struct daemon *d, struct request *r)
{
	op_read_state(d, r, "audit_verify");
}

void op_audit_key(struct daemon *d, struct request *r)
{
	op_read_state(d, r, "audit_key");
}

struct op_verified_params {
	int64_t sequence, first_bad;
	const char *fault;
};

static const struct op_param op_verified_params[] = {
	{ "sequence", OP_INT, true, offsetof(struct op_verified_params, sequence), 0, INT64_MAX },
	{ "first_bad", OP_INT, false, offsetof(struct op_verified_params, first_bad), 1,
	  INT64_MAX },
	{ "fault", OP_TEXT, false, offsetof(struct op_verified_params, fault), 1, 31 },
};

static void op_verified_stored(void *userdata, int outcome)
{
	struct request *r = userdata;
	struct op_map m = { 0 };
	char why[TURN_WHY_SIZE];

	if (outcome != 0)
		request_fail(r, PROTO_AUDIT_UNAVAILABLE, 1000, "%s",
			     turn_why(outcome, "the verdict", why));
	else
		request_send(r, op_map_end(&m, request_reply(r)));
}

void op_audit_verified(struct daemon *d, struct request *r)
{
	struct op_verified_params p = { 0 };
	struct audit_row *a;
	struct change *c;

	if (!op_read(r, op_verified_params, ARRAY_SIZE(op_verified_params), &p))
		return;
	c = change_new(d->turn, op_verified_stored, r);
	a = change_audit(c, "audit_verified", p.fault ? "broken" : "ok", request_peer(r));
	if (p.fault)
		(void)snprintf(a->detail, sizeof(a->detail), "row %" PRId64 ": %s", p.first_bad,
			       p.fault);
	else
		(void)snprintf(a->detail, sizeof(a->detail), "whole up to row %" PRId64,
			       p.sequence);
	change_submit(c);
	if (p.fault)
		log_error("`audit verify` found the audit broken at row %" PRId64, p.first_bad);
}

/* --- export --- */

bool op_audit_bounds(struct daemon *d, struct request *r, uint64_t *ret_pruned,
		     uint64_t *ret_exported)
{
	struct audit_checkpoint checkpoint;
	int result = store_audit_checkpoint(d->store, &checkpoint);

	if (result == 0)
		result = store_audit_exported(d->store, ret_exported);
	if (result != 0) {
		request_fail(r, PROTO_INTERNAL, -1, "the audit cannot be read: %s",
			     result < 0 ? strerrordesc_np(-result)
					: store_outcome_text((enum store_outcome)result));
		return false;
	}
	*ret_pruned = checkpoint.sequence;
	/* what is gone need not be exported any more */
	if (*ret_exported < checkpoint.sequence)
		*ret_exported = checkpoint.sequence;
	return true;
}

struct op_export_params {
	int64_t from, to;
	bool is_new;
};

static const struct op_param op_export_params[] = {
	{ "from", OP_INT, false, offsetof(struct op_export_params, from), 1, INT64_MAX },
	{ "to", OP_INT, false, offsetof(struct op_export_params, to), 1, INT64_MAX },
	{ "new", OP_BOOL, false, offsetof(struct op_export_params, is_new), 0, 0 },
};

void op_audit_export(struct daemon *d, struct request *r)
{
	struct op_reading reading = { .d = d, .r = r, .is_export = true };
	struct op_export_params p = { 0 };
	uint8_t hash[HASH_SIZE];
	uint64_t head, pruned;
	char detail[96];

	if (!op_read(r, op_export_params, ARRAY_SIZE(op_export_params), &p) ||
	    !op_audit_bounds(d, r, &pruned, &reading.exported))
		return;
	store_audit_head(d->store, &head, hash);
	reading.from = p.is_new ? reading.exported + 1 : (uint64_t)p.from;
	if (reading.from <= pruned)
		reading.from = pruned + 1;
	if (p.to && (uint64_t)p.to <= head)
		reading.to = (uint64_t)p.to;
	if (reading.from > (reading.to ? reading.to : head + 1)) {
		request_fail(r, PROTO_INVALID_REQUEST, -1,
			     "there are no such rows: they go from %" PRIu64 " to %" PRIu64,
			     pruned + 1, head);
		return;
	}
	(void)snprintf(detail, sizeof(detail), "from row %" PRIu64, reading.from);
	if (reading.to)
		(void)snprintf(detail, sizeof(detail), "rows %" PRIu64 " to %" PRIu64, reading.from,
			       reading.to);
	op_reading_submit(&reading, "audit_export", detail);
}

struct op_exported {
	struct request *r;
	uint64_t exported; /* as it is afterwards */
};

struct op_exported_params {
	int64_t from, sequence;
};

static const struct op_param op_exported_params[] = {
	{ "from", OP_INT, true, offsetof(struct op_exported_params, from), 1, INT64_MAX },
	{ "sequence", OP_INT, true, offsetof(struct op_exported_params, sequence), 1, INT64_MAX },
};

static int op_exported_store(struct store *s, void *userdata)
{
	const struct op_exported *done = userdata;

	return store_set_audit_exported(s, done->exported);
}

static void op_exported_stored(void *userdata, int outcome)
{
	struct op_exported *done = userdata;
	char why[TURN_WHY_SIZE];
	struct op_map m = { 0 };

	if (outcome != 0) {
		request_fail(done->r, PROTO_AUDIT_UNAVAILABLE, 1000, "%s",
			     turn_why(outcome, "exported, and that", why));
	} else {
		op_map_int(&m, "exported", (int64_t)done->exported);
		request_send(done->r, op_map_end(&m, request_reply(done->r)));
	}
	free(done);
}

void op_audit_exported(struct daemon *d, struct request *r)
{
	struct op_exported_params p = { 0 };
	struct op_exported *done;
	struct audit_row *a;
	struct change *c;
	uint8_t hash[HASH_SIZE];
	uint64_t head, pruned, exported;

	if (!op_read(r, op_exported_params, ARRAY_SIZE(op_exported_params), &p) ||
	    !op_audit_bounds(d, r, &pruned, &exported))
		return;
	store_audit_head(d->store, &head, hash);
	if (p.from > p.sequence || (uint64_t)p.sequence > head) {
		request_fail(r, PROTO_INVALID_REQUEST, -1,
			     "there are no such rows: the last is %" PRIu64, head);
		return;
	}
	/* an export that leaves a gap behind the one before does not count for what is in it */
	if ((uint64_t)p.from <= exported + 1 && (uint64_t)p.sequence > exported)
		exported = (uint64_t)p.sequence;
	done = xcalloc(1, sizeof(*done));
	*done = (struct op_exported){ .r = r, .exported = exported };
	c = change_new(d->turn, op_exported_stored, done);
	change_store(c, op_exported_store);
	a = change_audit(c, "audit_exported", "ok", request_peer(r));
	(void)snprintf(a->detail, sizeof(a->detail),
		       "rows %" PRId64 " to %" PRId64 "; all up to %" PRIu64 " are exported",
		       p.from, p.sequence, exported);
	change_submit(c);
}
