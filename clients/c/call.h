/*
 * Any method by name: the calls of keybroker.h and the command line tool stand on this. Not
 * installed; `struct message` is of proto.
 */
#pragma once

#include "base/macros.h"
#include "clients/c/keybroker.h"

struct buf;
struct message;
struct value;

enum call_param_type { CALL_TEXT, CALL_INT, CALL_BOOL, CALL_INTS, CALL_FD };

struct call_param {
	const char *name;
	enum call_param_type type;
	const char *text; /* NULL: left out */
	/* CALL_INT: < 0 is left out; CALL_FD too, else `true` is sent, and the descriptor
	 * (borrowed) goes with the request; CALL_INTS: how many */
	int64_t number;
	const int64_t *numbers; /* CALL_INTS: borrowed */
};

#define CALL_PARAM_TEXT(param, value) ((struct call_param){ (param), CALL_TEXT, (value), 0, NULL })
#define CALL_PARAM_INT(param, value) ((struct call_param){ (param), CALL_INT, NULL, (value), NULL })
#define CALL_PARAM_BOOL(param, value) \
	((struct call_param){ (param), CALL_BOOL, NULL, (value), NULL })
#define CALL_PARAM_INTS(param, values, n) \
	((struct call_param){ (param), CALL_INTS, NULL, (int64_t)(n), (values) })

#define CALL_PARAM_FD(param, value) ((struct call_param){ (param), CALL_FD, NULL, (value), NULL })

struct call {
	const char *method;
	const struct call_param *params;
	size_t n_params;
	bool upstream; /* the broker may wait for LiteLLM: a longer deadline, told as timeout_ms */
	bool once;     /* must not be repeated if the connection is lost after it was sent */
};

enum { CALL_ID_SIZE = 25 };
/* A request_id: random, since it must not meet that of another acquire by this process or one with
 * its pid before. */
int call_draw_id(char ret[CALL_ID_SIZE]) _must_check_;
/* The descriptor that goes with the request, borrowed; -1: none. */
int call_passed_fd(const struct call *call);
/* Appends the request; `wait_ms` is what the broker is told. -ENOMEM, -ENOBUFS. */
int call_pack(struct buf *b, uint32_t id, const struct call *call, int64_t wait_ms) _must_check_;

/* Opens and connects; with `admin` to the admin socket: `admin_socket`, or else
 * KEYBROKER_ADMIN_SOCKET, or beside the client socket. */
enum keybroker_code call_open(struct keybroker **ret, const struct keybroker_options *options,
			      bool admin, const char *admin_socket,
			      struct keybroker_error *ret_error);

/* Sends one request and waits for its reply, repeating it over a new connection when the broker
 * went away meanwhile; on KEYBROKER_OK `ret` is the reply, to be freed, and has a result.
 * `ret_repeated` (may be NULL): it was sent more than once. */
enum keybroker_code call_run(struct keybroker *k, const struct call *call, struct message **ret,
			     bool *ret_repeated, struct keybroker_error *ret_error);
enum keybroker_code keybroker_call(struct keybroker *k, const struct call *call,
				   struct message **ret, struct keybroker_error *ret_error);

/*
 * Waits, however long, for the next notification of `method`; others are dropped. The call that
 * asked for them comes first. After KEYBROKER_LOST the next call connects again, and gives a broker
 * that restarts a few seconds for it. One thread at a time, and not on a handle of keybroker_get().
 */
enum keybroker_code keybroker_listen(struct keybroker *k, const char *method, struct message **ret,
				     struct keybroker_error *ret_error);

/* The next notification of any method, waited for `wait_ms` (< 0: however long). KEYBROKER_TIMEOUT:
 * none came, and the connection goes on. Else as keybroker_listen(). */
enum keybroker_code keybroker_next(struct keybroker *k, int64_t wait_ms, struct message **ret,
				   struct keybroker_error *ret_error);
/* What to poll for notifications; changes with each call that connects again. -1: not connected. */
int keybroker_socket_fd(struct keybroker *k);

/* Takes the reply, also when it fails: then it is no lease. */
enum keybroker_code keybroker_lease_new(struct keybroker_lease **ret, struct message *reply,
					struct keybroker_error *e);
/* Likewise without looking whether it is whole; NULL without memory. */
struct keybroker_lease *keybroker_lease_wrap(struct message *reply);
/* The reply an acquire came with, as long as the lease object lives. */
const struct value *keybroker_lease_result(const struct keybroker_lease *l);

DEFINE_CLEANUP(struct keybroker_lease, keybroker_lease)
static inline _unused_ void keybroker_closep(struct keybroker **k)
{
	keybroker_close(*k);
	*k = NULL;
}
