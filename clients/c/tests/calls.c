/* Calls to LiteLLM, with the retry that a transport would have, and calls at once. */
#include "driver.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "http.h"

enum { CALLS_MAX = 256 };

struct call {
	struct keybroker *k;
	const char *profile;
	bool stream; /* a body that cannot be sent twice */
	int status;
	char key_hash[9];
	enum keybroker_code code;
	struct keybroker_error error;
};

static void call_post(struct call *c, const struct keybroker_lease *l)
{
	ask_hash(keybroker_lease_api_key(l), c->key_hash);
	c->status =
		http_post_chat(keybroker_lease_base_url(l), keybroker_lease_api_key(l), "gpt-5");
}

static void call_make(struct call *c)
{
	struct keybroker_lease *l = NULL, *other = NULL;

	c->code = keybroker_get(c->k, c->profile, &l, &c->error);
	if (c->code != KEYBROKER_OK)
		return;
	call_post(c, l);
	/* what fails now leaves the first answer to the caller */
	if (c->status == 401 && keybroker_report(c->k, l, c->status, NULL, NULL) == KEYBROKER_OK &&
	    !c->stream && keybroker_get(c->k, c->profile, &other, NULL) == KEYBROKER_OK &&
	    strcmp(keybroker_lease_api_key(l), keybroker_lease_api_key(other)) != 0)
		call_post(c, other);
	keybroker_lease_free(other);
	keybroker_lease_free(l);
}

static void *call_thread(void *data)
{
	call_make(data);
	return NULL;
}

static void *get_thread(void *data)
{
	struct call *c = data;
	struct keybroker_lease *l = NULL;

	c->code = keybroker_get(c->k, c->profile, &l, &c->error);
	if (l)
		ask_hash(keybroker_lease_api_key(l), c->key_hash);
	keybroker_lease_free(l);
	return NULL;
}

/* Runs it in `n` threads at once; the results are to be freed. */
static struct call *calls_at_once(const struct ask *a, size_t n, void *(*run)(void *))
{
	struct call *calls = calloc(n, sizeof(*calls));
	pthread_t threads[CALLS_MAX];

	if (!calls || n > CALLS_MAX)
		driver_die("too many at once");
	for (size_t i = 0; i < n; i++) {
		calls[i] = (struct call){ .k = *a->client, .profile = a->profile };
		if (pthread_create(&threads[i], NULL, run, &calls[i]) != 0)
			driver_die("no thread");
	}
	for (size_t i = 0; i < n; i++)
		(void)pthread_join(threads[i], NULL);
	return calls;
}

static int calls_compare(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The different ones, sorted. */
static json_t *calls_different(const char **texts, size_t n)
{
	json_t *array = json_array();

	qsort(texts, n, sizeof(*texts), calls_compare);
	for (size_t i = 0; i < n; i++)
		if (i == 0 || strcmp(texts[i], texts[i - 1]) != 0)
			(void)json_array_append_new(array, json_string(texts[i]));
	return array;
}

static size_t calls_n(const struct ask *a)
{
	return (size_t)json_integer_value(json_object_get(a->request, "n"));
}

void ask_many(struct ask *a)
{
	size_t n = calls_n(a), n_hashes = 0, n_codes = 0;
	struct call *calls = calls_at_once(a, n, get_thread);
	const char *hashes[CALLS_MAX], *codes[CALLS_MAX];

	for (size_t i = 0; i < n; i++)
		if (calls[i].code == KEYBROKER_OK)
			hashes[n_hashes++] = calls[i].key_hash;
		else
			codes[n_codes++] = keybroker_code_name(calls[i].code);
	ask_set(a, "key_hashes", calls_different(hashes, n_hashes));
	ask_set(a, "codes", calls_different(codes, n_codes));
	free(calls);
}

static void ask_calls(struct ask *a)
{
	size_t n = calls_n(a);
	struct call *calls = calls_at_once(a, n, call_thread);
	json_t *statuses = json_array();

	for (int status = -1; status < 600; status++) /* sorted */
		for (size_t i = 0; i < n; i++)
			if (calls[i].code == KEYBROKER_OK && calls[i].status == status) {
				(void)json_array_append_new(statuses, json_integer(status));
				break;
			}
	ask_set(a, "statuses", statuses);
	for (size_t i = 0; i < n; i++)
		if (calls[i].code != KEYBROKER_OK)
			ask_fail(a, &calls[i].error);
	free(calls);
}

void ask_call(struct ask *a)
{
	struct call c = { .k = *a->client,
			  .profile = a->profile,
			  .stream = json_is_true(json_object_get(a->request, "body_stream")) };

	if (calls_n(a) > 0) {
		ask_calls(a);
		return;
	}
	call_make(&c);
	if (c.code != KEYBROKER_OK) {
		ask_fail(a, &c.error);
		return;
	}
	ask_set(a, "status", json_integer(c.status));
	ask_set(a, "key_hash", json_string(c.key_hash));
}

/* The key is for the base URL's own scheme, host and port. */
static bool calls_same_origin(const char *a, const char *b)
{
	size_t n = strcspn(a, "/") + 2, m = n + strcspn(a + n, "/");

	return strncmp(a, b, m) == 0 && (b[m] == '/' || b[m] == '\0');
}

void ask_call_other(struct ask *a)
{
	const char *url = json_string_value(json_object_get(a->request, "url"));
	struct keybroker_lease *l = ask_lease(a);

	if (!l)
		return;
	bool own = calls_same_origin(keybroker_lease_base_url(l), url);
	ask_set(a, "status", json_integer(http_get(url, own ? keybroker_lease_api_key(l) : NULL)));
	keybroker_lease_free(l);
}
