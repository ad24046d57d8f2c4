/* What lasts as long as its connection, and hears of its end. */
#include "daemon/conn.h"

bool request_tie(struct request *r, struct tie *t)
{
	if (r->conn->state != CONN_OPEN)
		return false;
	tie_cut(t);
	t->conn = r->conn;
	TAILQ_INSERT_TAIL(&t->conn->ties, t, of_conn);
	return true;
}

void tie_cut(struct tie *t)
{
	if (t->conn)
		TAILQ_REMOVE(&t->conn->ties, t, of_conn);
	t->conn = NULL;
}

void conn_end_ties(struct conn *c)
{
	struct tie *t;

	while ((t = TAILQ_FIRST(&c->ties))) {
		tie_cut(t);
		t->ended(t);
	}
}
