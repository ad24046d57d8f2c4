/* Leases: acquire, renew, release, and the answer of an acquire as an object that owns the key. */
#include "clients/c/keybroker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "clients/c/call.h"
#include "clients/c/fault.h"
#include "clients/c/handle.h"
#include "proto/message.h"

struct keybroker_lease {
	struct message *reply; /* owned; wipes itself */
};

enum { KEYBROKER_REQUEST_ID_BYTES = 12 };

/* Random, since it must not meet the id of another call by this process or one with its pid before.
 */
static int keybroker_draw_request_id(char ret[2 * KEYBROKER_REQUEST_ID_BYTES + 1])
{
	static const char digits[] = "0123456789abcdef";
	uint8_t bytes[KEYBROKER_REQUEST_ID_BYTES];

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		return -EIO;
	for (size_t i = 0; i < sizeof(bytes); i++) {
		ret[2 * i] = digits[bytes[i] >> 4];
		ret[2 * i + 1] = digits[bytes[i] & 0xf];
	}
	ret[2 * sizeof(bytes)] = '\0';
	return 0;
}

/* The fields that no caller can do without; so the accessors need no checks. */
static bool keybroker_is_whole(const struct value *result)
{
	static const char *const needed[] = { "lease", "api_key", "base_url" };

	for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
		const char *text = value_text(value_get(result, needed[i]));

		if (!text || !*text)
			return false;
	}
	return true;
}

static enum keybroker_code keybroker_lease_new(struct keybroker_lease **ret, struct message *reply,
					       struct keybroker_error *e)
{
	_cleanup_(message_freep) struct message *m = reply;

	if (!keybroker_is_whole(message_result(m)))
		return fault_set(e, KEYBROKER_GARBAGE,
				 "the reply to acquire has no lease, api_key or base_url");
	struct keybroker_lease *l = malloc(sizeof(*l));
	if (!l)
		return fault_set(e, KEYBROKER_NO_MEMORY, "no memory");
	l->reply = TAKE(m);
	*ret = l;
	return KEYBROKER_OK;
}

enum keybroker_code keybroker_acquire(struct keybroker *k, const struct keybroker_request *request,
				      struct keybroker_lease **ret,
				      struct keybroker_error *ret_error)
{
	static const char *const binds[] = { [KEYBROKER_BIND_PROCESS] = "process",
					     [KEYBROKER_BIND_TTL] = "ttl",
					     [KEYBROKER_BIND_CONNECTION] = "connection" };
	char drawn[2 * KEYBROKER_REQUEST_ID_BYTES + 1];
	const char *request_id = request->request_id;
	struct message *reply = NULL;

	if (!request_id && keybroker_draw_request_id(drawn) < 0)
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

static int64_t keybroker_int(const struct value *result, const char *name)
{
	int64_t n = 0;

	(void)value_int(value_get(result, name), &n); /* absent: 0 */
	return n;
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
		*ret_ends_at_ms = keybroker_int(message_result(reply), "lease_ends_at_ms");
	return code;
}

enum keybroker_code keybroker_release(struct keybroker *k, const char *lease,
				      struct keybroker_error *ret_error)
{
	const struct call_param params[] = { CALL_PARAM_TEXT("lease", lease) };
	const struct call call = { "release", params, ARRAY_SIZE(params), false, false };
	_cleanup_(message_freep) struct message *reply = NULL;
	enum keybroker_code code = keybroker_call(k, &call, &reply, ret_error);

	/* the attempt before may have released it */
	return code == KEYBROKER_UNKNOWN_LEASE && k->repeated ? KEYBROKER_OK : code;
}

void keybroker_lease_free(struct keybroker_lease *l)
{
	if (!l)
		return;
	message_free(l->reply);
	free(l);
}

const struct value *keybroker_lease_result(const struct keybroker_lease *l)
{
	return message_result(l->reply);
}

static const char *keybroker_text(const struct keybroker_lease *l, const char *name)
{
	const char *text = value_text(value_get(keybroker_lease_result(l), name));

	return text ? text : "";
}

const char *keybroker_lease_id(const struct keybroker_lease *l)
{
	return keybroker_text(l, "lease");
}

const char *keybroker_lease_profile(const struct keybroker_lease *l)
{
	return keybroker_text(l, "profile");
}

const char *keybroker_lease_mode(const struct keybroker_lease *l)
{
	return keybroker_text(l, "mode");
}

const char *keybroker_lease_api_key(const struct keybroker_lease *l)
{
	return keybroker_text(l, "api_key");
}

const char *keybroker_lease_base_url(const struct keybroker_lease *l)
{
	return keybroker_text(l, "base_url");
}

const char *keybroker_lease_key_hash(const struct keybroker_lease *l)
{
	return keybroker_text(l, "key_hash");
}

size_t keybroker_lease_n_models(const struct keybroker_lease *l)
{
	return value_len(value_get(keybroker_lease_result(l), "models"));
}

const char *keybroker_lease_model(const struct keybroker_lease *l, size_t index)
{
	const struct value *models = value_get(keybroker_lease_result(l), "models");
	const char *text = value_text(value_at(models, index));

	return text ? text : "";
}

int64_t keybroker_lease_generation(const struct keybroker_lease *l)
{
	return keybroker_int(keybroker_lease_result(l), "generation");
}

int64_t keybroker_lease_expires_at_ms(const struct keybroker_lease *l)
{
	return keybroker_int(keybroker_lease_result(l), "expires_at_ms");
}

int64_t keybroker_lease_refresh_at_ms(const struct keybroker_lease *l)
{
	return keybroker_int(keybroker_lease_result(l), "refresh_at_ms");
}

int64_t keybroker_lease_ends_at_ms(const struct keybroker_lease *l)
{
	return keybroker_int(keybroker_lease_result(l), "lease_ends_at_ms");
}

int64_t keybroker_lease_ttl_ms(const struct keybroker_lease *l)
{
	return keybroker_int(keybroker_lease_result(l), "ttl_ms");
}
