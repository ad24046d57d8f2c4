/* The answer to an acquire as an object that owns the key; counted, since a cached one is handed to
 * many callers. */
#include "clients/c/call.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/c/fault.h"
#include "proto/message.h"

enum { KEYBROKER_LEASE_LONG = 16 };

struct keybroker_lease {
	atomic_uint refs;
	struct message *reply; /* owned; wipes itself */
};

/* Text that may go into a URL or a header as it is. */
static bool keybroker_lease_is_plain(const char *text)
{
	for (; *text; text++)
		if (*text <= ' ' || *text > '~')
			return false;
	return true;
}

/* Each field as the protocol has it, and those that no caller can do without; so the accessors need
 * no checks. */
static bool keybroker_lease_is_whole(const struct value *result)
{
	static const struct {
		const char *name;
		bool text, needed;
	} fields[] = {
		{ "lease", true, true },	   { "api_key", true, true },
		{ "base_url", true, true },	   { "profile", true, false },
		{ "mode", true, false },	   { "key_hash", true, false },
		{ "generation", false, false },	   { "expires_at_ms", false, false },
		{ "refresh_at_ms", false, false }, { "lease_ends_at_ms", false, false },
		{ "ttl_ms", false, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		const struct value *v = value_get(result, fields[i].name);
		const char *text = value_text(v);
		int64_t number;

		if (value_type(v) == VALUE_NIL ? fields[i].needed
		    : fields[i].text	       ? !text || !keybroker_lease_is_plain(text)
					       : !value_int(v, &number))
			return false;
		if (fields[i].needed && !*text)
			return false;
	}
	return true;
}

struct keybroker_lease *keybroker_lease_wrap(struct message *reply)
{
	struct keybroker_lease *l = malloc(sizeof(*l));

	if (!l) {
		message_free(reply);
		return NULL;
	}
	atomic_init(&l->refs, 1);
	l->reply = reply;
	return l;
}

enum keybroker_code keybroker_lease_new(struct keybroker_lease **ret, struct message *reply,
					struct keybroker_error *e)
{
	struct keybroker_lease *l;

	if (!keybroker_lease_is_whole(message_result(reply))) {
		message_free(reply);
		return fault_set(e, KEYBROKER_GARBAGE,
				 "the reply to acquire has no lease, api_key or base_url");
	}
	l = keybroker_lease_wrap(reply);
	if (!l)
		return fault_set(e, KEYBROKER_NO_MEMORY, "no memory");
	*ret = l;
	return KEYBROKER_OK;
}

struct keybroker_lease *keybroker_lease_ref(struct keybroker_lease *l)
{
	(void)atomic_fetch_add_explicit(&l->refs, 1, memory_order_relaxed);
	return l;
}

void keybroker_lease_free(struct keybroker_lease *l)
{
	if (!l || atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) != 1)
		return;
	message_free(l->reply);
	free(l);
}

static int64_t keybroker_lease_int(const struct value *result, const char *name)
{
	int64_t n = 0;

	(void)value_int(value_get(result, name), &n); /* absent: 0 */
	return n;
}

const struct value *keybroker_lease_result(const struct keybroker_lease *l)
{
	return message_result(l->reply);
}

static const char *keybroker_lease_text(const struct keybroker_lease *l, const char *name)
{
	const char *text = value_text(value_get(keybroker_lease_result(l), name));

	return text ? text : "";
}

const char *keybroker_lease_id(const struct keybroker_lease *l)
{
	return keybroker_lease_text(l, "lease");
}

const char *keybroker_lease_profile(const struct keybroker_lease *l)
{
	return keybroker_lease_text(l, "profile");
}

const char *keybroker_lease_mode(const struct keybroker_lease *l)
{
	return keybroker_lease_text(l, "mode");
}

const char *keybroker_lease_api_key(const struct keybroker_lease *l)
{
	return keybroker_lease_text(l, "api_key");
}

const char *keybroker_lease_base_url(const struct keybroker_lease *l)
{
	return keybroker_lease_text(l, "base_url");
}

const char *keybroker_lease_key_hash(const struct keybroker_lease *l)
{
	return keybroker_lease_text(l, "key_hash");
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
	return keybroker_lease_int(keybroker_lease_result(l), "generation");
}

int64_t keybroker_lease_expires_at_ms(const struct keybroker_lease *l)
{
	return keybroker_lease_int(keybroker_lease_result(l), "expires_at_ms");
}

int64_t keybroker_lease_refresh_at_ms(const struct keybroker_lease *l)
{
	return keybroker_lease_int(keybroker_lease_result(l), "refresh_at_ms");
}

int64_t keybroker_lease_ends_at_ms(const struct keybroker_lease *l)
{
	return keybroker_lease_int(keybroker_lease_result(l), "lease_ends_at_ms");
}

int64_t keybroker_lease_ttl_ms(const struct keybroker_lease *l)
{
	return keybroker_lease_int(keybroker_lease_result(l), "ttl_ms");
}

int keybroker_lease_describe(const struct keybroker_lease *l, char *text, size_t size)
{
	const char *key = keybroker_lease_api_key(l), *id = keybroker_lease_id(l);
	size_t n = strlen(key);
	bool shows = n >= KEYBROKER_LEASE_LONG; /* what is left out is still a secret */

	const char *profile = keybroker_lease_profile(l); /* none: OPENAI_API_KEY, for any */

	return snprintf(text, size, "profile %s, mode %s, lease %s, key %.*s…%s, generation %lld",
			*profile ? profile : "none", keybroker_lease_mode(l), *id ? id : "none",
			shows && strncmp(key, "sk-", 3) == 0 ? 3 : 0, key, shows ? key + n - 4 : "",
			(long long)keybroker_lease_generation(l));
}
