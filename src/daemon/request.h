/*
 * One request from the moment it was read until its reply was sent. Owned by its handler, which
 * ends it with exactly one of request_send(), request_fail() or request_free(). Its connection
 * outlives it, open or not.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/buf.h"
#include "base/macros.h"
#include "core/peer.h"
#include "proto/errors.h"
#include "proto/message.h"

struct account;
struct conn;

struct request {
	struct conn *conn;
	uint32_t id;
	struct message *message; /* owned; params borrow from it */
	bool admin;		 /* came over the admin socket */
	const char *refused;	 /* why its connection is not served (a literal); NULL: it is */
	struct buf reply;	 /* what request_reply() packs */
	bool answered;		 /* its reply is out, and it stays: no request without a reply */
	TAILQ_ENTRY(request) of_conn;

	/*
	 * For handlers that wait (for upstream): called when the peer has gone, so that the handler
	 * takes the request off its list and frees it. NULL while nothing but a commit is awaited:
	 * the reply then goes nowhere.
	 */
	void (*gone)(struct request *r);
	void *waiting_for;		 /* the handler's own */
	TAILQ_ENTRY(request) of_waiters; /* the handler's own list */
};
TAILQ_HEAD(request_list, request);

/* For the connection that read it: takes over the message and charges the uid's account. */
struct request *request_new(struct conn *c, struct message *m) _must_check_;

/* Something that lasts as long as a connection. Zeroed: it is tied to none. */
struct tie {
	struct conn *conn;
	/* The peer has hung up; tied to none any more. Called once, from the loop. */
	void (*ended)(struct tie *t);
	TAILQ_ENTRY(tie) of_conn;
};
TAILQ_HEAD(tie_list, tie);

/* Ties it to the connection of `r`, and no more to another. False, and all is as it was: the peer
 * has hung up. */
bool request_tie(struct request *r, struct tie *t);
void tie_cut(struct tie *t);

const struct value *request_params(const struct request *r);
const struct peer *request_peer(const struct request *r);
/* The peer's pidfd, borrowed; -1 if the kernel gave none. */
int request_pidfd(const struct request *r);
/*
 * Is the process that connected not the one that asks? It may have ended and left its connection to
 * a child. NULL: it is; else what is wrong, for the audit.
 */
const char *request_doubt(const struct request *r);
/*
 * The pidfd that came with it; the caller's to close, -1 if there is none. Within the handler's
 * call only.
 */
int request_take_passed(struct request *r);
struct account *request_account(const struct request *r);
/* Has the peer not gone yet? */
bool request_alive(const struct request *r);

/* The buffer for the reply, with its head already packed: pack the result, then request_send(). */
struct buf *request_reply(struct request *r) _must_check_;
/* Sends what request_reply() collected; if `packed` (the sum of the packing) is negative, an
 * internal error instead. Frees. */
void request_send(struct request *r, int packed);
/* Replies with an error; `retry_after_ms` < 0: none. Frees. */
void request_fail(struct request *r, enum proto_error code, int64_t retry_after_ms, const char *fmt,
		  ...) _printf_(4, 5);
/* Ends it without a reply. */
void request_free(struct request *r);

/* --- one that stays after its reply: its connection is told things until the peer goes --- */

/* False: the connection has such a one already. */
bool request_subscribe(struct request *r) _must_check_;
/* Sends what request_reply() collected; the request goes on. */
void request_answer(struct request *r);
/* How many bytes the connection may be sent now; 0 while its peer has yet to take earlier ones. */
size_t request_room(const struct request *r);
/* Sends whole notifications. If that ends the connection, `gone` is called from the loop. */
void request_notify(struct request *r, const struct buf *messages);
/* Closes the connection; `gone` is called from the loop. */
void request_hang_up(struct request *r);
