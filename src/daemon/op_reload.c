/* `reload`: an administrator has the configuration read again. Whether that worked is on record
 * before it is answered. */
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "daemon/daemon.h"
#include "daemon/op.h"
#include "daemon/op_map.h"
#include "daemon/turn.h"

struct op_reloaded {
	struct daemon *d;
	struct request *r;
	bool ok;
	struct daemon_reloaded what;
};

static void op_reload_pack_waits(const struct daemon_reloaded *what, struct op_map *m)
{
	if (what->n_waits == 0)
		return;
	op_map_name(m, "restart");
	m->r = m->r < 0 ? m->r : pack_array(&m->pairs, what->n_waits);
	for (size_t i = 0; i < what->n_waits && m->r == 0; i++)
		m->r = pack_text(&m->pairs, what->waits[i]);
}

static void op_reloaded(void *userdata, int outcome)
{
	struct op_reloaded *done = userdata;
	struct op_map m = { 0 };

	if (outcome != 0) {
		request_fail(done->r, PROTO_AUDIT_UNAVAILABLE, 1000,
			     "%s, and that cannot be recorded now: %s",
			     done->ok ? "reloaded" : "the old configuration stays",
			     turn_reason(outcome));
	} else if (!done->ok) {
		request_fail(done->r, PROTO_INVALID_REQUEST, -1, "the old configuration stays: %s",
			     done->what.detail);
	} else {
		op_map_int(&m, "profiles", (int64_t)done->d->config->n_profiles);
		op_map_int(&m, "rules", (int64_t)done->d->config->n_rules);
		op_reload_pack_waits(&done->what, &m);
		request_send(done->r, op_map_end(&m, request_reply(done->r)));
	}
	free(done);
}

void op_reload(struct daemon *d, struct request *r)
{
	struct op_reloaded *done = xcalloc(1, sizeof(*done));
	struct change *c = change_new(d->turn, op_reloaded, done);
	struct audit_row *a;

	done->d = d;
	done->r = r;
	done->ok = daemon_reload(d, &done->what);
	a = change_audit(c, "reload", done->ok ? "ok" : "failed", request_peer(r));
	(void)snprintf(a->detail, sizeof(a->detail), "%s", done->what.detail);
	change_submit(c);
}
