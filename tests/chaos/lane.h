/* One lane of the load: what it asks, over which connection, and what it writes down (client.c). */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/un.h>

#include "base/buf.h"

#define LANE_NEVER INT64_MAX

enum lane_op { OP_NONE, OP_ACQUIRE, OP_RELEASE, OP_WHOAMI };

struct lane {
	int fd; /* -1: not connected */
	struct buf in;
	bool probe; /* connects anew for each request, and only asks */
	enum lane_op op;
	bool sent;  /* on this connection */
	bool fresh; /* nothing was answered on this connection yet */
	uint32_t id;
	int64_t since_usec; /* connected */
	int64_t sent_usec;
	int64_t due_usec; /* when lane_act() is to be called */
	int64_t term;
	/* the acquire under way, and then its lease */
	char request[64];
	const char *profile;
	int64_t ttl_ms;
	char lease[64]; /* "": none */
};

/* What all lanes share: the command line, and the wish to end. */
struct load {
	struct sockaddr_un address;
	const char *name; /* what request ids begin with */
	long lanes, rate, dedicated_per_mille, give_up_percent, probe_usec;
	volatile sig_atomic_t draining; /* nothing new is asked for; leases are given back */
};
extern struct load load;

/* CLOCK_MONOTONIC. */
int64_t lane_now_usec(void);
/* What is due: sends the next request, or the last one again. */
void lane_act(struct lane *l);
/* Takes what has come over its connection. */
void lane_receive(struct lane *l);
/* Hangs up. */
void lane_free(struct lane *l);
