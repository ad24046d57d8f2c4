/*
 * One connection: bytes in, requests out, replies back. For server.c, request.c and conn_set.c;
 * handlers see requests only.
 */
#pragma once

#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/buf.h"
#include "base/macros.h"
#include "core/peer.h"
#include "daemon/account.h"
#include "daemon/request.h"

/* With more unsent bytes than this a connection is not read. */
#define CONN_UNSENT 65536

enum conn_state {
	CONN_OPEN,
	CONN_DRAINING, /* not read any more; closes when all is answered and sent */
	CONN_GONE,     /* closed; freed when its last request has ended */
};

/* What a connection waits for: it is on conn_set.places[] of that name, or on its account's list.
 * conn_move() alone changes it. */
enum conn_place {
	CONN_IDLE,    /* nothing: draining, stopped, or gone and its requests know */
	CONN_READING, /* its read event */
	CONN_STUCK,   /* its write event: too much is unsent */
	CONN_QUEUED,  /* the next turn */
	CONN_HELD,    /* its uid has too much in its buffers */
	CONN_PACED,   /* its uid's next request: account.paced */
	CONN_UNTOLD,  /* gone, and its waiting requests must hear of it */
};
enum { CONN_N_PLACES = CONN_UNTOLD + 1 };

/* Why the first request of a connection is refused and the connection then closed. */
struct conn_refusal {
	enum proto_error code;
	const char *text;
};

struct conn_set;

struct conn {
	struct conn_set *set;
	struct account *account; /* charged: the uid's, or the uid's on the admin socket */
	struct account *owner;	 /* the uid's */
	int held;		 /* descriptors charged */
	struct peer peer;
	int fd;	    /* -1 once gone */
	int pidfd;  /* may be -1 */
	int passed; /* a descriptor that came with the request that is being read; -1: none */
	bool admin;
	bool unproven; /* its process was found by number: the first bytes must be that process's */
	bool stranger; /* and they were not */
	const struct conn_refusal *refusal; /* NULL: served */
	enum conn_state state;
	enum conn_place place;
	bool busy;	 /* a function of ours works on it and will settle it */
	bool more;	 /* bytes may wait, here or in the socket, that were not looked at */
	bool completed;	 /* its first request was read */
	bool progressed; /* a request was completed or reply bytes left since it was settled last */
	bool owing;	 /* on conn_set.owing */
	uint64_t turn;	 /* in which `taken` requests were taken */
	int taken;
	int64_t since_ms; /* on conn_set.owing since */
	struct buf in;	  /* bytes that recv() gave beyond the last whole request */
	struct buf out;	  /* bytes that send() did not take */
	int64_t charged;  /* of both, to the account */
	struct event read, write;
	struct event process; /* its process has ended; pending while anything lasts as long */
	struct request_list requests; /* not ended yet */
	struct tie_list ties;	      /* what ends with it */
	struct request *subscriber;   /* one of them, that stays: the peer need not take what it
					 is told; NULL: none */
	TAILQ_ENTRY(conn) of_all, of_place, of_owing;
};

/* --- conn.c --- */

/* Takes over both descriptors; they are closed at once if the uid has far too many connections. */
void conn_add(struct conn_set *s, const struct peer *peer, int fd, int pidfd, bool admin);
/* Sends a whole reply, or keeps what the socket does not take. The connection may be gone after. */
void conn_send(struct conn *c, const struct buf *reply);
/* What may be sent now without waiting behind other bytes or passing the uid's limit. */
size_t conn_room(const struct conn *c);
/* Sends of what was kept as much as the socket takes. The connection may be gone after. */
void conn_push(struct conn *c);
/* A request has ended. May free the connection: return at once. */
void conn_request_ended(struct conn *c);
/* Closes at once; the requests that wait hear of it from the loop. Does not free. */
void conn_close(struct conn *c);
/* No more is read; what was asked is still answered, unless it waits for upstream. */
void conn_drain(struct conn *c);
/* Calls `ended` of each tie and `gone` of each request that has one. From the loop only. */
void conn_tell(struct conn *c);
/* Brings the account up to date with what this connection has buffered, and holds open. */
void conn_charge(struct conn *c);
/* Keeps a descriptor that came with bytes; over the uid's share the next request is refused. */
void conn_pass(struct conn *c, int fd);
/* Decides where the connection waits next. May free it: return at once. */
void conn_settle(struct conn *c);
void conn_move(struct conn *c, enum conn_place place);
/* May the connection, for its uid, read more bytes; make one more request in this second? */
bool conn_has_room_to_read(const struct conn *c);
bool conn_has_turn(const struct conn *c);
/* Its uid has made a request, or had bytes read for nothing. */
void conn_count_request(struct conn *c);

/* --- conn_input.c --- */

/* Goes on with what is here, then what is in the socket. May free the connection: return then. */
void conn_run(struct conn *c);
