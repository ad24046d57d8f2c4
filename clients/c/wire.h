/*
 * One connection: whole messages in, bytes out, never waiting. Owns its descriptor and wiping
 * buffers. Knows nothing of methods.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

struct message;

struct wire {
	int fd; /* -1: not connected */
	struct buf in, out;
	int passed_fd; /* goes with the first byte of `out`, borrowed; -1: none */
	bool more;     /* `in` may hold a whole message */
};

#define WIRE_INIT       \
	((struct wire){ \
		.fd = -1, .in = BUF_INIT(1 << 20), .out = BUF_INIT(1 << 20), .passed_fd = -1 })

/* CLOCK_BOOTTIME in milliseconds: what the deadlines here are in. Counts sleep, as expiry does. */
int64_t wire_now_ms(void);
/* Sleeps, no longer than to the deadline. */
void wire_pause(int64_t ms, int64_t deadline_ms);

/* 0, or the negative errno of connect(): -EAGAIN while the backlog is full. */
int wire_connect(struct wire *w, const char *path) _must_check_;
/* Sends what `out` has. 0: all of it; -EAGAIN: the socket takes no more now; another negative
 * errno. */
int wire_flush(struct wire *w) _must_check_;
/* The next whole message of what was read, to be freed. -EAGAIN: it is not whole yet; -EBADMSG,
 * -EMSGSIZE: what was read is no message, or claims more than a limit; -ENOMEM. */
int wire_take(struct wire *w, struct message **ret) _must_check_;
/* Reads what there is. -EAGAIN: nothing; -ENODATA: EOF; another negative errno. */
int wire_fill(struct wire *w) _must_check_;
/* Closes and wipes; it may be connected again. `shared`: the connection goes on in another
 * process. */
void wire_close(struct wire *w, bool shared);
