/*
 * All connections of a server and what they share: the turn's budget, the limits per uid, the lists
 * on which connections wait. For server.c and conn*.c.
 */
#pragma once

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/conn.h"
#include "daemon/server.h"

struct accounts;

/* Bytes of one recv(): over a turn's worth of requests, and the most that it can leave over. */
#define CONN_SET_READ 4096

struct conn_set {
	struct event_base *base; /* borrowed, as the three below */
	struct accounts *accounts;
	server_handle_fn handle;
	void *userdata;
	struct server_limits limits;
	uint64_t turn;
	int turn_left; /* requests that this turn may still take */
	bool stopped;
	bool eased; /* an account may have room again */
	uint64_t n_open, n_queued;
	struct conn_list all, places[CONN_N_PLACES];
	struct conn_list owing;	   /* the peer owes the rest of a request, or to take its replies;
				      oldest first */
	struct account_list paced; /* those with connections that wait for their next request */
	struct event work, reap, ties, pace;
	uint8_t scratch[CONN_SET_READ]; /* where recv() puts bytes; wiped after use */
};

/* `base`, `accounts`, `handle`, `userdata` and `limits` are set before. */
void conn_set_init(struct conn_set *s);
/* Closes all; no request is left. */
void conn_set_deinit(struct conn_set *s);
void conn_set_limits(struct conn_set *s, const struct server_limits *limits);
void conn_set_begin_turn(struct conn_set *s);
/* No connection is read any more; replies still leave. */
void conn_set_stop(struct conn_set *s);
/* A clock that stands still while the machine sleeps: nobody owes more for that. */
int64_t conn_set_now_ms(void);
/* Has the timer run for who is paced, if it doesn't yet. */
void conn_set_arm_pace(struct conn_set *s);
/* Has the timer run for whoever has owed longest, if it doesn't yet. */
void conn_set_arm_reap(struct conn_set *s);
