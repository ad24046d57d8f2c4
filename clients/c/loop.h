/* One descriptor for somebody else's event loop: the connection and a timer in an epoll set. */
#pragma once

struct keybroker;

/* Tells the loop of the connection as it is now, and when there is something to do. */
void loop_arm(struct keybroker *k);
/* The connection is about to be closed. */
void loop_forget(struct keybroker *k);
/* Closes what the loop has; it belongs to the parent after a fork. */
void loop_close(struct keybroker *k);
