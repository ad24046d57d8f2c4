/*
 * libkeybroker: gets short-lived LiteLLM keys from the local broker, keybrokerd. Blocking calls
 * with a deadline; a handle belongs to one thread at a time. The library starts no thread, writes
 * nothing to stdout or stderr, handles no signal, and wipes what held a key when it lets go of it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What came of a call. Up to KEYBROKER_INTERNAL the broker said it (proto/PROTOCOL.md). */
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
};

/* The name of a code, for example "denied". */
const char *keybroker_code_name(enum keybroker_code code);

#define KEYBROKER_TRIED_MAX 4

struct keybroker_error {
	enum keybroker_code code;
	char message[1024];	/* what happened; one line, never a secret */
	char advice[512];	/* what to do about it; may be empty */
	int64_t retry_after_ms; /* < 0: not said */
	struct {
		char path[128];	      /* cut if longer */
		int error;	      /* an errno */
	} tried[KEYBROKER_TRIED_MAX]; /* KEYBROKER_UNREACHABLE: each socket, in order */
	size_t n_tried;
};

/* How to reach a broker. All zero is a good default. */
struct keybroker_options {
	const char *socket;	  /* NULL: KEYBROKER_SOCKET, then the usual places */
	bool admin;		  /* the admin socket instead */
	const char *admin_socket; /* NULL: KEYBROKER_ADMIN_SOCKET, then beside the client socket */
	int64_t timeout_ms; /* the deadline of each call; 0: 30 s, or 10 s where no upstream is
			       involved */
};

struct keybroker;	/* a connection to a broker, which comes back by itself when it is lost */
struct keybroker_lease; /* the answer to one acquire; owns the key */

/*
 * Connects and checks who serves the socket. Each function here that takes `ret_error` fills it if
 * the outcome isn't KEYBROKER_OK (it may be NULL), and sets other outputs on KEYBROKER_OK alone.
 */
enum keybroker_code keybroker_open(struct keybroker **ret, const struct keybroker_options *options,
				   struct keybroker_error *ret_error);
void keybroker_close(struct keybroker *k); /* takes NULL */
/* The path of the socket that accepted; valid until keybroker_close(). */
const char *keybroker_socket_path(const struct keybroker *k);

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
};

enum keybroker_code keybroker_acquire(struct keybroker *k, const struct keybroker_request *request,
				      struct keybroker_lease **ret,
				      struct keybroker_error *ret_error);
/* Prolongs a TTL lease (`ttl_ms` 0: the broker's default); `ret_ends_at_ms` (may be NULL) is Unix
 * time, 0 if the lease has no end of its own. */
enum keybroker_code keybroker_renew(struct keybroker *k, const char *lease, int64_t ttl_ms,
				    int64_t *ret_ends_at_ms, struct keybroker_error *ret_error);
enum keybroker_code keybroker_release(struct keybroker *k, const char *lease,
				      struct keybroker_error *ret_error);

/* Wipes the key and frees; does not release. Takes NULL. */
void keybroker_lease_free(struct keybroker_lease *l);

/* Each text lives as long as the lease object and is never NULL; times are Unix milliseconds, 0
 * where there is none. */
const char *keybroker_lease_id(const struct keybroker_lease *l);
const char *keybroker_lease_profile(const struct keybroker_lease *l);
const char *keybroker_lease_mode(const struct keybroker_lease *l);
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
