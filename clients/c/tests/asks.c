/* What the driver is asked, but for calls to LiteLLM. */
#include "driver.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

void ask_hash(const char *key, char ret[9])
{
	unsigned char digest[crypto_hash_sha256_BYTES];

	(void)crypto_hash_sha256(digest, (const unsigned char *)key, strlen(key));
	for (size_t i = 0; i < 4; i++)
		(void)snprintf(ret + 2 * i, 3, "%02x", digest[i]);
}

static json_t *ask_key_hash(const struct keybroker_lease *l)
{
	char hash[9];

	ask_hash(keybroker_lease_api_key(l), hash);
	return json_string(hash);
}

static json_t *ask_error(const struct keybroker_error *e)
{
	json_t *after = e->retry_after_ms < 0 ? json_null() : json_integer(e->retry_after_ms);

	return json_pack("{s:s, s:s, s:s, s:s, s:o}", "code", keybroker_code_name(e->code),
			 "message", e->message, "advice", e->advice, "socket", e->socket,
			 "retry_after_ms", after);
}

void ask_fail(struct ask *a, const struct keybroker_error *e)
{
	(void)json_object_clear(a->answer);
	(void)json_object_set_new(a->answer, "error", ask_error(e));
}

void ask_set(struct ask *a, const char *name, json_t *value)
{
	(void)json_object_set_new(a->answer, name, value);
}

struct keybroker_lease *ask_lease(struct ask *a)
{
	struct keybroker_lease *l = NULL;
	struct keybroker_error e = { 0 };

	if (keybroker_get(*a->client, a->profile, &l, &e) != KEYBROKER_OK)
		ask_fail(a, &e);
	return l;
}

void ask_open(struct ask *a)
{
	driver_open(a->client, json_object_get(a->request, "options"));
}

static void ask_api_key(struct ask *a)
{
	struct keybroker_lease *l = ask_lease(a);

	if (l)
		ask_set(a, "key_hash", ask_key_hash(l));
	keybroker_lease_free(l);
}

static void ask_base_url(struct ask *a)
{
	struct keybroker_lease *l = ask_lease(a);

	if (l)
		ask_set(a, "base_url", json_string(keybroker_lease_base_url(l)));
	keybroker_lease_free(l);
}

static void ask_credential(struct ask *a)
{
	struct keybroker_lease *l = ask_lease(a);

	if (!l)
		return;
	int64_t expires = keybroker_lease_expires_at_ms(l);

	ask_set(a, "lease", json_string(keybroker_lease_id(l)));
	ask_set(a, "key_hash", ask_key_hash(l));
	ask_set(a, "generation", json_integer(keybroker_lease_generation(l)));
	ask_set(a, "mode", json_string(keybroker_lease_mode(l)));
	ask_set(a, "base_url", json_string(keybroker_lease_base_url(l)));
	ask_set(a, "expires_at_ms", expires ? json_integer(expires) : json_null());
	keybroker_lease_free(l);
}

static void ask_close(struct ask *a)
{
	keybroker_close(*a->client);
	*a->client = NULL;
}

static void ask_logged(struct ask *a)
{
	ask_set(a, "lines", json_deep_copy(driver_lines()));
}

static void ask_show(struct ask *a)
{
	struct keybroker_lease *l = ask_lease(a);
	struct keybroker_error e = { 0 };
	json_t *texts = json_array();
	char text[512];

	if (!l) {
		json_decref(texts);
		return;
	}
	(void)keybroker_lease_describe(l, text, sizeof(text));
	(void)json_array_append_new(texts, json_string(text));
	keybroker_lease_free(l);
	l = NULL;
	(void)keybroker_get(*a->client, "nosuch", &l, &e); /* is refused */
	(void)json_array_append_new(texts, json_string(e.message));
	(void)json_array_append_new(texts, json_string(e.advice));
	ask_set(a, "texts", texts);
}

/* --- a child of a fork --- */

static void ask_in_child(struct ask *a, int fd)
{
	ask_credential(a);
	(void)json_dumpfd(a->answer, fd, JSON_COMPACT);
	keybroker_close(*a->client);
	_exit(0);
}

static void ask_child(struct ask *a)
{
	static const char *const fields[] = { "lease", "key_hash" };
	struct keybroker_lease *before = ask_lease(a); /* so that the child inherits something */
	char name[32];
	int ends[2];

	if (!before || pipe(ends) < 0)
		return;
	pid_t pid = fork();
	if (pid == 0)
		ask_in_child(a, ends[1]);
	(void)close(ends[1]);
	json_t *child = json_loadfd(ends[0], 0, NULL);
	(void)close(ends[0]);
	(void)waitpid(pid, NULL, 0);
	ask_credential(a);
	json_t *parent = json_copy(a->answer);
	(void)json_object_clear(a->answer);
	if (json_object_get(child, "error"))
		(void)json_object_update(a->answer, child);
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		(void)snprintf(name, sizeof(name), "parent_%s", fields[i]);
		(void)json_object_set(a->answer, name, json_object_get(parent, fields[i]));
		(void)json_object_set(a->answer, fields[i], json_object_get(child, fields[i]));
	}
	json_decref(parent);
	json_decref(child);
	keybroker_lease_free(before);
}

/* --- by name --- */

static const struct {
	const char *name;
	ask_fn *run;
} asks[] = {
	{ "open", ask_open },
	{ "api_key", ask_api_key },
	{ "base_url", ask_base_url },
	{ "credential", ask_credential },
	{ "many", ask_many },
	{ "call", ask_call },
	{ "call_other", ask_call_other },
	{ "child", ask_child },
	{ "show", ask_show },
	{ "logged", ask_logged },
	{ "close", ask_close },
};

ask_fn *ask_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(asks) && name; i++)
		if (strcmp(asks[i].name, name) == 0)
			return asks[i].run;
	return NULL;
}
