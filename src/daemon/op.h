/* The methods of the protocol (proto/PROTOCOL.md): their handlers, and how they read their params.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "daemon/request.h"

struct daemon;
struct key;
struct lease;
struct rule;

enum op_type { OP_TEXT, OP_INT, OP_BOOL };

/*
 * One param of a method, read into the member at `offset`: const char * (borrowed from the
 * request), int64_t or bool. An absent one leaves the member as it is. `min`, `max`: of an integer,
 * or of a text's length in bytes.
 */
struct op_param {
	const char *name;
	enum op_type type;
	bool required;
	size_t offset;
	int64_t min, max;
};

#define OP_LIST_DEFAULT 50
#define OP_LIST_MAX 100

/* Reads all into `into`. False: the request was ended with invalid_request, naming the param. */
bool op_read(struct request *r, const struct op_param *params, size_t n, void *into) _must_check_;

/* What a method is called and who may call it; the table is in dispatch.c. */
typedef void (*op_fn)(struct daemon *d, struct request *r);

void dispatch(void *daemon, struct request *r);

void op_acquire(struct daemon *d, struct request *r);
void op_hello(struct daemon *d, struct request *r);
void op_whoami(struct daemon *d, struct request *r);
void op_list(struct daemon *d, struct request *r);
void op_explain(struct daemon *d, struct request *r);
void op_renew(struct daemon *d, struct request *r);
void op_release(struct daemon *d, struct request *r);
void op_report(struct daemon *d, struct request *r);
void op_ack(struct daemon *d, struct request *r);
void op_watch(struct daemon *d, struct request *r);
/* admin */
void op_status(struct daemon *d, struct request *r);
void op_spend(struct daemon *d, struct request *r);
void op_leases(struct daemon *d, struct request *r);
void op_rotate(struct daemon *d, struct request *r);
void op_revoke(struct daemon *d, struct request *r);
void op_import(struct daemon *d, struct request *r);
void op_audit_read(struct daemon *d, struct request *r);
void op_audit_verify(struct daemon *d, struct request *r);
void op_audit_key(struct daemon *d, struct request *r);
void op_audit_export(struct daemon *d, struct request *r);
void op_audit_exported(struct daemon *d, struct request *r);
void op_audit_verified(struct daemon *d, struct request *r);
void op_audit_prune(struct daemon *d, struct request *r);
void op_audit_follow(struct daemon *d, struct request *r);
void op_reload(struct daemon *d, struct request *r);
void op_sweep(struct daemon *d, struct request *r);

/* The last row that was pruned, and the last that was exported or pruned. False: the request was
 * ended. */
bool op_audit_bounds(struct daemon *d, struct request *r, uint64_t *ret_pruned,
		     uint64_t *ret_exported) _must_check_;
/* The peer's own active lease of this id; NULL: the request was ended, and whose it is is not said.
 */
struct lease *op_lease_of_peer(struct daemon *d, struct request *r, const char *id) _must_check_;
/* What becomes of a wish for a TTL (< 0: none was said): the default, at most the rule's cap and
 * the broker's. */
int64_t op_ttl_ms(const struct daemon *d, const struct rule *rule, int64_t wanted_ms);
/* Ends an admin's request for a profile that there is not. */
void op_no_profile(struct request *r, const char *name);
/* Where the master key in force came from, as the protocol names it. */
const char *op_master_key_source(const struct daemon *d);
/* The first 8 digits of a key's hash, as the protocol shows it. */
void op_short_hash(const char *hash, char ret[9]);
