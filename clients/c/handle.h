/*
 * The handle behind keybroker.h. All of it is guarded by its lock, which nobody holds while
 * waiting; functions here and in exchange.h, credential.h and loop.h want it held.
 */
#pragma once

#include <pthread.h>

#include "clients/c/exchange.h"
#include "clients/c/find.h"
#include "clients/c/wire.h"

struct credential;

struct keybroker {
	pthread_mutex_t lock;
	pthread_cond_t moved; /* something came, ended, or nobody polls any more */
	struct keybroker *next_open;

	struct find_paths paths;	  /* owned */
	const char *path;		  /* that accepted: one of `paths`, NULL before */
	int64_t timeout_ms, ack_after_ms; /* timeout_ms 0: the default of each call */
	void (*log)(void *data, const char *line);
	void *log_data;

	/* --- the connection: exchange.c --- */
	struct wire wire;	    /* owned */
	struct exchange *exchanges; /* that have not ended, in the order in which they began */
	uint64_t n_heard;	    /* whole messages that have come */
	size_t n_waiting;	    /* threads that wait for a broker */
	int64_t began_ms, lost_at_ms, retry_at_ms, at_once_ms, pause_ms;
	uint64_t n_failures;		/* connections that were lost or could not be made */
	struct keybroker_error failure; /* the last of them */
	struct message *heard;		/* a notification for who listens; owned */
	uint32_t last_id;

	/* --- somebody else's event loop: loop.c --- */
	uint32_t epoll_events;	/* that the connection is registered with; 0: it is not */
	int epoll_fd, timer_fd; /* -1: nobody asked */

	/* --- cached credentials: credential.c --- */
	struct credential *credentials; /* owned */
	struct exchange watch;
	int64_t watch_at_ms;
	struct keybroker_lease *environment; /* owned; in place of any broker, for good */

	bool inherited; /* by a fork: what is here is the parent's */
	bool admin;	/* the paths are of admin sockets */
	bool met;	/* a broker has accepted once: the environment is not for us any more */
	bool polled;	/* by a thread, which will look at what comes */
	bool answered;	/* something came over the connection there is, or was last */
	bool listening; /* somebody waits for a notification */
	bool watching;	/* `watch` is under way, or was answered over the connection there is */
};

/* What is the parent's is dropped first if this process was forked off it. */
void handle_lock(struct keybroker *k);
/* Also tells the event loop when there is something to do next. */
void handle_unlock(struct keybroker *k);

/* Makes the condition anew: after a fork nobody waits by it. */
void handle_init_moved(struct keybroker *k);

/* Connects to the socket that accepted before, else to the first that does. KEYBROKER_PENDING: its
 * backlog is full. */
enum keybroker_code handle_connect(struct keybroker *k, struct keybroker_error *e) _must_check_;
/* Closes and wipes. */
void handle_disconnect(struct keybroker *k);
/* Hands an error of the library's own to the caller, who may not want it, with the socket's name;
 * yields its code. */
enum keybroker_code handle_report(const struct keybroker *k, const struct keybroker_error *e,
				  struct keybroker_error *ret);
