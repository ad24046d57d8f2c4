/* The method table: one row per method, its role checked once, here. */
#include <stdio.h>
#include <string.h>

#include "daemon/daemon.h"
#include "daemon/denials.h"
#include "daemon/leases.h"
#include "daemon/op.h"

struct dispatch_method {
	const char *name;
	bool admin;
	op_fn handle;
};

static const struct dispatch_method dispatch_methods[] = {
	{ "hello", false, op_hello },
	{ "acquire", false, op_acquire },
	{ "renew", false, op_renew },
	{ "release", false, op_release },
	{ "report", false, op_report },
	{ "ack", false, op_ack },
	{ "watch", false, op_watch },
	{ "whoami", false, op_whoami },
	{ "list", false, op_list },
	{ "explain", false, op_explain },
	{ "status", true, op_status },
	{ "spend", true, op_spend },
	{ "leases", true, op_leases },
	{ "rotate", true, op_rotate },
	{ "revoke", true, op_revoke },
	{ "import", true, op_import },
	{ "audit_read", true, op_audit_read },
	{ "audit_follow", true, op_audit_follow },
	{ "reload", true, op_reload },
	{ "sweep", true, op_sweep },
	{ "audit_verify", true, op_audit_verify },
	{ "audit_key", true, op_audit_key },
	{ "audit_export", true, op_audit_export },
	{ "audit_exported", true, op_audit_exported },
	{ "audit_verified", true, op_audit_verified },
	{ "audit_prune", true, op_audit_prune },
};

static void dispatch_to(struct daemon *d, struct request *r, const struct dispatch_method *m)
{
	const char *doubt = request_doubt(r);
	const struct denied what = { m->name, "",
				     doubt ? doubt : "an admin method on the clients' socket" };

	if (doubt)
		denials_answer(d, r, &what,
			       "%s, pid %d: connect again from the process that wants to be served",
			       doubt, (int)request_peer(r)->pid);
	else if (m->admin && !r->admin)
		denials_answer(d, r, &what, "%s is for the admin socket, %s", m->name,
			       d->config->admin_socket_path);
	else
		m->handle(d, r);
}

void dispatch(void *daemon, struct request *r)
{
	struct daemon *d = daemon;
	const char *method = message_method(r->message);

	if (r->refused) {
		const struct denied what = { "admin", "", "the admin socket is not for this uid" };

		denials_answer(d, r, &what, "%s", r->refused);
		return;
	}
	if (d->stopping) {
		request_fail(r, PROTO_NOT_LEADER, 100, "this broker is stopping; ask again");
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(dispatch_methods); i++) {
		if (strcmp(dispatch_methods[i].name, method) != 0)
			continue;
		dispatch_to(d, r, &dispatch_methods[i]);
		return;
	}
	request_fail(r, PROTO_INVALID_REQUEST, -1, "unknown method");
}

static bool op_read_int(const struct op_param *p, const struct value *v, void *to)
{
	int64_t n;

	if (!value_int(v, &n) || n < p->min || n > p->max)
		return false;
	memcpy(to, &n, sizeof(n));
	return true;
}

static bool op_read_text(const struct op_param *p, const struct value *v, void *to)
{
	const char *text = value_text(v);
	int64_t n = text ? (int64_t)strlen(text) : -1;

	if (n < p->min || n > p->max)
		return false;
	memcpy(to, &text, sizeof(const char *));
	return true;
}

static bool op_read_bool(const struct value *v, void *to)
{
	bool b = value_bool(v, false);

	if (value_type(v) != VALUE_BOOL)
		return false;
	memcpy(to, &b, sizeof(b));
	return true;
}

static bool op_read_one(const struct op_param *p, const struct value *v, void *to)
{
	switch (p->type) {
	case OP_INT:
		return op_read_int(p, v, to);
	case OP_TEXT:
		return op_read_text(p, v, to);
	case OP_BOOL:
		return op_read_bool(v, to);
	}
	return false;
}

static const char *op_expected(const struct op_param *p, char *text, size_t size)
{
	switch (p->type) {
	case OP_INT:
		(void)snprintf(text, size, "an integer from %lld to %lld", (long long)p->min,
			       (long long)p->max);
		return text;
	case OP_TEXT:
		(void)snprintf(text, size, "text of %lld to %lld bytes", (long long)p->min,
			       (long long)p->max);
		return text;
	case OP_BOOL:
		return "true or false";
	}
	return "";
}

bool op_read(struct request *r, const struct op_param *params, size_t n, void *into)
{
	for (size_t i = 0; i < n; i++) {
		const struct op_param *p = &params[i];
		const struct value *v = value_get(request_params(r), p->name);
		char text[96];

		if ((!v || value_type(v) == VALUE_NIL) && !p->required)
			continue;
		if (v && op_read_one(p, v, (char *)into + p->offset))
			continue;
		request_fail(r, PROTO_INVALID_REQUEST, -1, "%s must be %s", p->name,
			     op_expected(p, text, sizeof(text)));
		return false;
	}
	return true;
}

void op_short_hash(const char *hash, char ret[9])
{
	(void)snprintf(ret, 9, "%.8s", hash);
}

struct lease *op_lease_of_peer(struct daemon *d, struct request *r, const char *id)
{
	struct lease *l = leases_find(d->leases, id);

	if (l && lease_is_of(l, request_peer(r)))
		return l;
	request_fail(r, PROTO_UNKNOWN_LEASE, -1, "no such lease of yours, or it has ended");
	return NULL;
}

void op_no_profile(struct request *r, const char *name)
{
	request_fail(r, PROTO_UNKNOWN_PROFILE, -1,
		     "no profile is called \"%s\"; `keybroker status` shows those there are", name);
}
