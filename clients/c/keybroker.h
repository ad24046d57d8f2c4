/*
 * libkeybroker: short-lived LiteLLM keys from the local broker, keybrokerd; see keybroker(3). The
 * library starts no thread, writes nothing to stdout or stderr, handles no signal, and wipes what
 * held a key when it lets go of it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What came of a call. Up to KEYBROKER_INTERNAL the broker said it. */
enum keybroker_code {
	KEYBROKER_OK,
	KEYBROKER_INVALID_REQUEST,
	KEYBROKER_DENIED,
	KEYBROKER_UNKNOWN_PROFILE,
	KEYBROKER_UNKNOWN_LEASE,
	KEYBROKER_LIMIT_EXCEEDED,
	KEYBROKER_UPSTREAM_UNAVAILABLE,
	KEYBROKER_UPSTREAM_REFUSED,
	KEYBROKER_AUDIT_UNAVAILABLE,
	KEYBROKER_NOT_LEADER,
	KEYBROKER_INTERNAL,
	KEYBROKER_UNREACHABLE, /* no socket accepted: see `tried` */
	KEYBROKER_UNTRUSTED,   /* a socket accepted that somebody else could be serving */
	KEYBROKER_TIMEOUT,     /* no reply before the deadline */
	KEYBROKER_LOST,	   /* the connection ended, and whether the request was done is unknown */
	KEYBROKER_GARBAGE, /* what came back is not the protocol */
	KEYBROKER_NO_MEMORY,
	KEYBROKER_PENDING, /* keybroker_try_get(): no answer yet */
};
/* The name of a code, for example "denied". */
const char *keybroker_code_name(enum keybroker_code code);

#define KEYBROKER_TRIED_MAX 4

struct keybroker_error {
	enum keybroker_code code;
	char message[1024];	/* what happened; one line, never a secret */
	char advice[512];	/* what to do about it */
	char socket[128];	/* that was used, or tried first; cut if longer */
	int64_t retry_after_ms; /* < 0: not said */
	struct {
		char path[128];	      /* cut if longer */
		int error;	      /* an errno */
	} tried[KEYBROKER_TRIED_MAX]; /* KEYBROKER_UNREACHABLE: each socket, in order */
	size_t n_tried;
	void *reserved[4];
};

/* All zero is a good default. The texts are copied. */
struct keybroker_options {
	const char *socket; /* NULL: KEYBROKER_SOCKET, then the usual places */
	int64_t timeout_ms; /* no call takes longer; 0: 30 s, or 10 s where LiteLLM is not involved
			     */
	int64_t ack_after_ms; /* a call that took the old key reaches LiteLLM meanwhile; 0: 30 s */
	void (*log)(void *data,
		    const char *line); /* what the library has to say, seldom; may be NULL */
	void *log_data;
	void *reserved[8]; /* zero */
};

struct keybroker; /* one connection to a broker, and the keys that came by it; any thread may use it
		   */
struct keybroker_lease; /* a key with all that belongs to it; never changes, counted */

/* Connects to nothing yet. Each function that takes `ret_error` (may be NULL) fills it if the
 * outcome isn't KEYBROKER_OK, and sets other outputs on KEYBROKER_OK alone. */
enum keybroker_code keybroker_open(struct keybroker **ret, const struct keybroker_options *options,
				   struct keybroker_error *ret_error);
/* Finds the broker and checks who serves its socket, now rather than at the first call. */
enum keybroker_code keybroker_connect(struct keybroker *k, struct keybroker_error *ret_error);
/* Releases what keybroker_get() took. No other thread may be using `k`, which may be NULL. */
void keybroker_close(struct keybroker *k);
/* The path of the socket that accepted, NULL before; valid until keybroker_close(). */
const char *keybroker_socket_path(struct keybroker *k);

/*
 * The key of a profile (NULL: "service"), from memory while it is good. The first call acquires it,
 * later ones keep it fresh; while the broker is away the key in memory is served until it expires.
 * Free the lease after use, and ask again for the next call to LiteLLM.
 */
enum keybroker_code keybroker_get(struct keybroker *k, const char *profile,
				  struct keybroker_lease **ret, struct keybroker_error *ret_error);
/* Likewise without ever waiting: KEYBROKER_PENDING while the answer is under way
 * (keybroker_dispatch()). */
enum keybroker_code keybroker_try_get(struct keybroker *k, const char *profile,
				      struct keybroker_lease **ret,
				      struct keybroker_error *ret_error);

/* What a report has shown about the key that LiteLLM refused. */
enum keybroker_verdict {
	KEYBROKER_KEY_UNKNOWN,	/* nothing is proved: repeat later */
	KEYBROKER_KEY_ALIVE,	/* LiteLLM honours it: mind the error of the call */
	KEYBROKER_KEY_REPLACED, /* there is another one: keybroker_get() has it */
	KEYBROKER_KEY_DEAD,	/* likewise, or keybroker_get() says why there is none */
};
/* LiteLLM has answered a call made with this key by `status`, for example 401. Threads that report
 * the same key at the same time make one report. */
enum keybroker_code keybroker_report(struct keybroker *k, const struct keybroker_lease *l,
				     int status, enum keybroker_verdict *ret,
				     struct keybroker_error *ret_error);

/* For an event loop: a descriptor that is readable when keybroker_dispatch() has something to do,
 * timers too; the same until keybroker_close(), but another one after a fork. -1: there is none
 * left. */
int keybroker_fd(struct keybroker *k);
/* Does what is due, without waiting: hears what the broker says, refreshes, connects again. */
void keybroker_dispatch(struct keybroker *k);

/* What ends a lease. A connection lease ends with the handle; when a call has connected anew, it
 * must be taken up within 10 s: by an acquire with `lease`. */
enum keybroker_bind { KEYBROKER_BIND_PROCESS, KEYBROKER_BIND_TTL, KEYBROKER_BIND_CONNECTION };

/* What to acquire. All zero: the profile "service", bound to this process. */
struct keybroker_request {
	const char *profile;
	const char *lease; /* read the key of this lease again instead */
	enum keybroker_bind bind;
	bool fixed;	    /* the key goes where it cannot be replaced (an environment variable) */
	int64_t ttl_ms;	    /* KEYBROKER_BIND_TTL; 0: the broker's default */
	const int *for_pid; /* KEYBROKER_BIND_PROCESS: the pidfd of an ancestor of the same uid,
			       which is to have the lease; NULL: this process has it */
	int64_t min_valid_ms;	/* 0: the broker's default */
	const char *request_id; /* NULL: a random one, so that a repeat after a lost connection gets
				   the same key */
	void *reserved[8];	/* zero */
};

/* A lease of the caller's own, which nobody refreshes, acknowledges or releases for it. */
enum keybroker_code keybroker_acquire(struct keybroker *k, const struct keybroker_request *request,
				      struct keybroker_lease **ret,
				      struct keybroker_error *ret_error);
/* Prolongs a TTL lease (`ttl_ms` 0: the broker's default); `ret_ends_at_ms` (may be NULL) is Unix
 * time, 0 if the lease has no end of its own. */
enum keybroker_code keybroker_renew(struct keybroker *k, const char *lease, int64_t ttl_ms,
				    int64_t *ret_ends_at_ms, struct keybroker_error *ret_error);
enum keybroker_code keybroker_release(struct keybroker *k, const char *lease,
				      struct keybroker_error *ret_error);

/* One more reference to the same lease. */
struct keybroker_lease *keybroker_lease_ref(struct keybroker_lease *l);
/* Lets go of it: the last one wipes the key. Does not release. Takes NULL. */
void keybroker_lease_free(struct keybroker_lease *l);

/* Each text lives as long as the lease object and is never NULL; times are Unix milliseconds, 0
 * where there is none. */
const char *keybroker_lease_id(const struct keybroker_lease *l); /* "": the key of OPENAI_API_KEY */
const char *keybroker_lease_profile(const struct keybroker_lease *l);
const char *keybroker_lease_mode(
	const struct keybroker_lease *l); /* shared, dedicated, static; environment */
const char *keybroker_lease_api_key(const struct keybroker_lease *l);
const char *keybroker_lease_base_url(const struct keybroker_lease *l);
const char *keybroker_lease_key_hash(const struct keybroker_lease *l); /* 8 hex digits */
size_t keybroker_lease_n_models(const struct keybroker_lease *l);
const char *keybroker_lease_model(const struct keybroker_lease *l, size_t index);
int64_t keybroker_lease_generation(const struct keybroker_lease *l);
int64_t keybroker_lease_expires_at_ms(const struct keybroker_lease *l);
int64_t keybroker_lease_refresh_at_ms(const struct keybroker_lease *l);
int64_t keybroker_lease_ends_at_ms(const struct keybroker_lease *l);
/* How long a TTL lease was made for: less than asked if a rule caps it. 0 for others. */
int64_t keybroker_lease_ttl_ms(const struct keybroker_lease *l);
/* One line for a log, with the key as "sk-…AbCd"; as snprintf(3). */
int keybroker_lease_describe(const struct keybroker_lease *l, char *text, size_t size);

#ifdef __cplusplus
}
#endif
