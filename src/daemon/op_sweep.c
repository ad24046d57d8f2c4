/* `sweep`: an administrator has the keys upstream compared with the store's now. */
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "daemon/daemon.h"
#include "daemon/op.h"
#include "daemon/op_map.h"
#include "daemon/sweep.h"
#include "daemon/turn.h"

struct op_sweeping {
	struct daemon *d;
	struct request *r;
};

void op_sweep_reply(struct request *r, const struct sweep_found *found)
{
	struct op_map m = { 0 };

	op_map_int(&m, "listed", found->listed);
	op_map_int(&m, "marked", found->marked);
	op_map_int(&m, "deleted", found->deleted);
	request_send(r, op_map_end(&m, request_reply(r)));
}

static void op_sweep_noted(void *userdata, int outcome)
{
	struct op_sweeping *o = userdata;
	char why[TURN_WHY_SIZE];

	if (outcome != 0)
		request_fail(o->r, PROTO_AUDIT_UNAVAILABLE, 1000, "%s",
			     turn_why(outcome, "the sweep", why));
	else if (request_alive(o->r))
		sweep_ask(o->d->sweep, o->r);
	else
		request_free(o->r);
	free(o);
}

/* Who asked for it is on record before it begins; each deletion is another row. */
void op_sweep(struct daemon *d, struct request *r)
{
	struct op_sweeping *o;
	struct change *c;

	if (!d->upstream) {
		request_fail(r, PROTO_INVALID_REQUEST, -1,
			     "there is nothing to sweep: no LiteLLM is configured");
		return;
	}
	o = xcalloc(1, sizeof(*o));
	*o = (struct op_sweeping){ .d = d, .r = r };
	c = change_new(d->turn, op_sweep_noted, o);
	(void)change_audit(c, "sweep", "asked", request_peer(r));
	change_submit(c);
}
