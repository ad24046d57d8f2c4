/*
 * One connection: connects within a deadline, sends whole requests, receives whole replies. Owns
 * its descriptor and a wiping receive buffer. Knows nothing of methods.
 */
#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "clients/c/keybroker.h"

struct message;

struct wire {
	int fd; /* -1: not connected */
	struct buf in;
};

#define WIRE_INIT ((struct wire){ .fd = -1, .in = BUF_INIT(1 << 20) })

/* CLOCK_MONOTONIC in milliseconds: what the deadlines here are in. */
int64_t wire_now_ms(void);
/* Sleeps, no longer than to the deadline. */
void wire_pause(int64_t ms, int64_t deadline_ms);

/* 0, or the negative errno of connect() (-ETIMEDOUT at the deadline), not logged. */
int wire_connect(struct wire *w, const char *path, int64_t deadline_ms) _must_check_;
/* All of `data`, and with its first byte the descriptor `fd` unless that is -1. KEYBROKER_OK,
 * KEYBROKER_LOST, KEYBROKER_TIMEOUT, with the error filled. */
enum keybroker_code wire_send(struct wire *w, const struct buf *data, int fd, int64_t deadline_ms,
			      struct keybroker_error *e) _must_check_;
/* One whole message of any kind, to be freed. As wire_receive(). */
enum keybroker_code wire_next(struct wire *w, int64_t deadline_ms, struct message **ret,
			      struct keybroker_error *e) _must_check_;
/* The reply to the request `id`, to be freed; notifications before it are dropped. Also
 * KEYBROKER_GARBAGE, KEYBROKER_NO_MEMORY. */
enum keybroker_code wire_receive(struct wire *w, uint32_t id, int64_t deadline_ms,
				 struct message **ret, struct keybroker_error *e) _must_check_;
/* Closes and wipes; it may be connected again. */
void wire_close(struct wire *w);
