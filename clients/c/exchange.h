/*
 * Requests and their replies over the one connection of a handle: several may be under way, for
 * threads that wait and for nobody in particular. It is connected while there is one, and again
 * when it was lost: then what has no reply is sent once more.
 */
#pragma once

#include "clients/c/call.h"

struct exchange {
	const struct call *call; /* borrowed until it has ended */
	/* What is to be done when it has ended; it goes on trying until then. NULL: a thread waits
	 * for `done`, and it ends too when there is no broker to wait for. */
	void (*ended)(struct keybroker *k, struct exchange *x);
	int64_t patience_ms;
	/* --- the rest is exchange.c's --- */
	int64_t deadline_ms;
	uint32_t id;
	bool sent;     /* over the connection there is */
	bool repeated; /* it was lost at least once after it had been sent */
	bool done;
	uint64_t n_heard;	      /* the handle's, when it was sent */
	struct message *reply;	      /* owned; of a request that went well */
	struct keybroker_error error; /* else: code and words */
	struct exchange *next;
};

void exchange_begin(struct keybroker *k, struct exchange *x);
/* Does one thing that can be done without waiting; false: there is none. */
bool exchange_step(struct keybroker *k);
/* Waits for something to step on, until then at the latest; without the lock meanwhile. */
void exchange_wait(struct keybroker *k, int64_t until_ms);
/* When there is something to do without anything having come; INT64_MAX: never. */
int64_t exchange_due_ms(const struct keybroker *k);
/* Who begins to wait does not want to sit out a long pause between attempts to connect. */
void exchange_hurry(struct keybroker *k);
/* Whether there is no broker to wait for: it cannot be connected to, and was not there a moment
 * ago. */
bool exchange_is_hopeless(const struct keybroker *k);
/* The connection has ended, by its failure's code: connects again if anybody wants it. */
void exchange_lost(struct keybroker *k);
/* Takes it back, if it is under way: nobody waits for it, and nothing is done at its end. */
void exchange_cancel(struct keybroker *k, struct exchange *x);
/* Drops all, without a word to the broker: it is the parent's. */
void exchange_drop(struct keybroker *k);
/* `ms`, or down to half of it. */
int64_t exchange_jitter(int64_t ms);
