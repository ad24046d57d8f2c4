/* `reload`: an administrator has the configuration read again. Whether that worked is on record
 * before it is answered. */
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "daemon/configure.h"
#include "daemon/daemon.h"
#include "daemon/op.h"
#include "daemon/op_map.h"
#include "daemon/turn.h"

struct op_reloaded {
	struct daemon *d;
	struct request *r;
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

static void op_reload_pack_master(struct daemon *d, const struct daemon_reloaded *what,
				  struct op_map *m)
{
	struct op_map inner = { 0 };

	if (!d->config->master_key)
		return;
	op_map_text(&inner, "source", op_master_key_source(d));
	op_map_bool(&inner, "changed", what->master_changed);
	op_map_map(m, "master_key", &inner);
}

static void op_reloaded(void *userdata, int outcome, const struct daemon_reloaded *what)
{
	_cleanup_(freep) struct op_reloaded *done = userdata;
	struct op_map m = { 0 };
	char why[TURN_WHY_SIZE];

	if (outcome != 0) {
		request_fail(done->r, PROTO_AUDIT_UNAVAILABLE, 1000,
			     "%s; the old configuration stays",
			     turn_why(outcome, "the reload", why));
		return;
	}
	if (!what->ok) {
		request_fail(done->r, PROTO_INVALID_REQUEST, -1, "the old configuration stays: %s",
			     what->detail);
		return;
	}
	op_map_int(&m, "profiles", (int64_t)done->d->config->n_profiles);
	op_map_int(&m, "rules", (int64_t)done->d->config->n_rules);
	op_reload_pack_master(done->d, what, &m);
	op_reload_pack_waits(what, &m);
	request_send(done->r, op_map_end(&m, request_reply(done->r)));
}

void op_reload(struct daemon *d, struct request *r)
{
	struct op_reloaded *done = xcalloc(1, sizeof(*done));

	done->d = d;
	done->r = r;
	daemon_reload(d, request_peer(r), op_reloaded, done);
}
