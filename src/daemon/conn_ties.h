/* What lasts as long as a connection (request.h), for the connections themselves. */
#pragma once

struct conn;
struct conn_set;

/* Something lasts as long as the connection, which ends with its process then: a child that has the
 * socket does not go on with it. */
void conn_watch_process(struct conn *c);
/* Calls `ended` of each tie. From the loop only. */
void conn_end_ties(struct conn *c);
/* Of a connection with ties that is not read now, the end is looked for all the same. */
void conn_watch_ties(struct conn *c);
/* Looks at the connections with ties that are not read. */
void conn_set_look_at_ties(struct conn_set *s);
