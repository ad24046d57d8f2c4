/*
 * Cached credentials: one refreshable lease for each profile, acquired by the first who asks, read
 * again when it is due or the broker says so, acknowledged, taken up again after a lost connection.
 */
#pragma once

#include "clients/c/exchange.h"

/* One request of a credential that nobody in particular waits for. */
struct credential_op {
	struct keybroker_lease *of; /* owned while it is under way: its id is a parameter */
	struct call_param params[3];
	struct call call;
	struct exchange exchange;
	bool under_way;
};

struct credential {
	struct credential *next;
	struct keybroker_lease *lease;	/* owned; NULL: there is no key */
	int64_t expires_ms, refresh_ms; /* of wire_now_ms(); INT64_MAX: never */
	int64_t good_until_ms; /* it need not be looked at before: of a clock of keybroker_get.c */
	int64_t least_generation; /* the broker has told of it */
	bool stale; /* the lease must be read again: who asks waits for it until then */
	int64_t wait_until_ms;
	bool anew; /* the broker does not know the lease any more: another one is needed */
	int64_t retry_at_ms, pause_ms;
	int64_t ack_at_ms; /* INT64_MAX: there is nothing to acknowledge */
	struct credential_op ask, ack, report;
	char request_id[CALL_ID_SIZE]; /* of the acquire that may have been done; "": none */
	uint64_t n_asked;	       /* acquires that have ended, with `error` */
	uint64_t n_told;	       /* of them, when a caller was last told of an error */
	struct keybroker_error error;
	int64_t tried_ms; /* since when a caller who does not wait has been asking; 0: none is */
	uint64_t tried_failures; /* as many of the handle's there were then */
	uint64_t n_reported;	 /* reports that have ended, with `verdict` or `report_error` */
	enum keybroker_verdict verdict;
	struct keybroker_error report_error;
	char profile[];
};

/* NULL: none yet. */
struct credential *credential_find(struct keybroker *k, const char *profile);
/* Adds one without a key; NULL without memory. */
struct credential *credential_add(struct keybroker *k, const char *profile);
struct credential *credential_by_lease(struct keybroker *k, const char *lease);

/* Whether its key may be handed out now. */
bool credential_serves(const struct keybroker *k, const struct credential *c, int64_t now);
/* Acquires it or reads it again, unless that is under way. */
void credential_ask(struct keybroker *k, struct credential *c);
/* Tells the broker that LiteLLM answered by `status`, unless somebody is telling it. */
void credential_report(struct keybroker *k, struct credential *c, int status);

/* What the answer to a report says; NULL: nothing. */
enum keybroker_verdict credential_verdict(const struct value *result);

/* Begins what is due. */
void credential_tick(struct keybroker *k);
int64_t credential_due_ms(const struct keybroker *k);
/* A notification has come; the connection was made; it was lost. */
void credential_heard(struct keybroker *k, const struct message *m);
void credential_met(struct keybroker *k);
void credential_lost(struct keybroker *k);
/* Gives the leases back to the broker, if it is there. Takes the lock itself. */
void credential_release(struct keybroker *k);
/* Wipes and frees all. */
void credential_drop(struct keybroker *k);
