/* Leases of the caller's own: acquire, renew, release. */
#include "clients/c/keybroker.h"

#include "clients/c/call.h"
#include "clients/c/fault.h"
#include "proto/message.h"

enum keybroker_code keybroker_acquire(struct keybroker *k, const struct keybroker_request *request,
				      struct keybroker_lease **ret,
				      struct keybroker_error *ret_error)
{
	static const char *const binds[] = { [KEYBROKER_BIND_PROCESS] = "process",
					     [KEYBROKER_BIND_TTL] = "ttl",
					     [KEYBROKER_BIND_CONNECTION] = "connection" };
	char drawn[CALL_ID_SIZE];
	const char *request_id = request->request_id;
	struct message *reply = NULL;

	if (!request_id && call_draw_id(drawn) < 0)
		return fault_set(ret_error, KEYBROKER_INTERNAL, "no random bytes");
	/* a lease that exists has its binding */
	const char *bind = request->lease ? NULL : binds[request->bind];
	const char *profile = request->profile ? request->profile : "service";
	const struct call_param params[] = {
		CALL_PARAM_TEXT("profile", request->lease ? NULL : profile),
		CALL_PARAM_TEXT("lease", request->lease),
		CALL_PARAM_TEXT("bind", bind),
		CALL_PARAM_INT("ttl_ms", request->ttl_ms > 0 ? request->ttl_ms : -1),
		CALL_PARAM_INT("min_valid_ms",
			       request->min_valid_ms > 0 ? request->min_valid_ms : -1),
		CALL_PARAM_TEXT("request_id", request_id ? request_id : drawn),
		CALL_PARAM_FD("for_pid", request->for_pid ? *request->for_pid : -1),
		CALL_PARAM_BOOL("refreshable", !request->fixed),
	};
	const struct call call = { "acquire", params, ARRAY_SIZE(params) - (request->lease != NULL),
				   true, false };
	enum keybroker_code code = keybroker_call(k, &call, &reply, ret_error);
	return code == KEYBROKER_OK ? keybroker_lease_new(ret, reply, ret_error) : code;
}

enum keybroker_code keybroker_renew(struct keybroker *k, const char *lease, int64_t ttl_ms,
				    int64_t *ret_ends_at_ms, struct keybroker_error *ret_error)
{
	const struct call_param params[] = { CALL_PARAM_TEXT("lease", lease),
					     CALL_PARAM_INT("ttl_ms", ttl_ms > 0 ? ttl_ms : -1) };
	const struct call call = { "renew", params, ARRAY_SIZE(params), false, false };
	_cleanup_(message_freep) struct message *reply = NULL;
	enum keybroker_code code = keybroker_call(k, &call, &reply, ret_error);

	if (code == KEYBROKER_OK && ret_ends_at_ms)
		*ret_ends_at_ms = 0;
	if (code == KEYBROKER_OK && ret_ends_at_ms) /* absent: it stays 0 */
		(void)value_int(value_get(message_result(reply), "lease_ends_at_ms"),
				ret_ends_at_ms);
	return code;
}

enum keybroker_code keybroker_release(struct keybroker *k, const char *lease,
				      struct keybroker_error *ret_error)
{
	const struct call_param params[] = { CALL_PARAM_TEXT("lease", lease) };
	const struct call call = { "release", params, ARRAY_SIZE(params), false, false };
	_cleanup_(message_freep) struct message *reply = NULL;
	bool repeated = false;
	enum keybroker_code code = call_run(k, &call, &reply, &repeated, ret_error);

	/* the attempt before may have released it */
	return code == KEYBROKER_UNKNOWN_LEASE && repeated ? KEYBROKER_OK : code;
}
