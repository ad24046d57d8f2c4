/*
 * The sockets and their connections: accepts, knows the peer, reads requests, sends replies. Calls
 * one function for each request. At most SERVER_TURN_REQUESTS in one turn and SERVER_CONN_REQUESTS
 * of one connection; what is left waits for the next turn.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

struct accounts;
struct event_base;
struct peer;
struct request;
struct server;

#define SERVER_TURN_REQUESTS 64
#define SERVER_CONN_REQUESTS 16

/* Limits per uid; taken over by value. */
struct server_limits {
	int64_t connections, buffered_bytes;
	int64_t waiting;	     /* requests of a uid without a reply; more are refused */
	int64_t requests_per_second; /* more wait, unread, until it is their turn; 0: no limit */
	/* the connections of this peer's uid, in place of `connections`; NULL: the same for all */
	int64_t (*connections_of)(void *userdata, const struct peer *peer);
	int64_t idle_reap_ms; /* a connection that has not completed its first request is closed
				 after this */
};

/* `r` is the handler's from here on. Called from the loop, never from within another call of this
 * module. */
typedef void (*server_handle_fn)(void *userdata, struct request *r);

int server_new(struct server **ret, struct event_base *base, struct accounts *accounts,
	       server_handle_fn handle, void *userdata) _must_check_;
/* Closes all; requests still owned by handlers must have ended before. */
void server_free(struct server *s);
DEFINE_CLEANUP(struct server, server)
void server_set_limits(struct server *s, const struct server_limits *limits);
/* Serves a listening socket, which is taken over, in place of the one there was of its kind. Its
 * peers come by the `listen` section of that name (peer.listen), "" being none. */
int server_listen(struct server *s, int fd, bool admin, const char *listen) _must_check_;

/* A new turn begins: the counters start again, and connections with whole requests in their buffers
 * go on. */
void server_begin_turn(struct server *s);
/* Requests that this turn may still take. */
int server_turn_room(const struct server *s);
/* Stops accepting and reading for good (a clean stop); replies still leave. */
void server_stop(struct server *s);
/* Open connections. */
uint64_t server_connections(const struct server *s);
