/* The handle behind keybroker.h: which sockets to try, and the connection there is. */
#pragma once

#include "clients/c/find.h"
#include "clients/c/wire.h"

struct keybroker {
	struct find_paths paths; /* owned */
	const char *path;	 /* that accepted: one of `paths`, NULL before */
	bool admin;
	int64_t timeout_ms; /* 0: the default */
	struct wire wire;   /* owned */
	uint32_t last_id;
	bool repeated;	    /* the last call was sent more than once */
	bool answered;	    /* something came over the connection there is, or was last */
	int64_t lost_at_ms; /* the connection went away while it was listened to: the next call
			       gives the broker time to come back; 0: it did not */
};

/* Connects if there is no connection: to the socket that accepted before, else to the first that
 * does. */
enum keybroker_code handle_connect(struct keybroker *k, int64_t deadline_ms,
				   struct keybroker_error *e) _must_check_;
