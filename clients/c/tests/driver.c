/*
 * The program that the scenarios drive (clients/README.md, "The driver"): a JSON object a line in,
 * one line out. It is an event loop, as a program would have one: between the lines it dispatches
 * what the library's descriptors say.
 */
#include <errno.h>
#include <jansson.h>
#include <keybroker.h>
#include <poll.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "http.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

enum { DRIVER_CLIENTS = 16, DRIVER_THREADS = 256, DRIVER_LINE = 65536 };

struct client {
	char name[64];
	struct keybroker *k;
};

static struct client driver_clients[DRIVER_CLIENTS];
static json_t *driver_logged;

/* One request of the scenario, and what came of it. */
struct ask {
	json_t *request, *answer;
	struct client *client;
	const char *profile;
};

static double driver_now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1000 + (double)t.tv_nsec / 1e6;
}

static void driver_die(const char *what)
{
	(void)fprintf(stderr, "driver: %s\n", what);
	exit(70);
}

static void driver_hash(const char *key, char ret[9])
{
	unsigned char digest[crypto_hash_sha256_BYTES];

	(void)crypto_hash_sha256(digest, (const unsigned char *)key, strlen(key));
	for (size_t i = 0; i < 4; i++)
		(void)snprintf(ret + 2 * i, 3, "%02x", digest[i]);
}

static json_t *driver_key_hash(const struct keybroker_lease *l)
{
	char hash[9];

	driver_hash(keybroker_lease_api_key(l), hash);
	return json_string(hash);
}

static json_t *driver_error(const struct keybroker_error *e)
{
	json_t *after = e->retry_after_ms < 0 ? json_null() : json_integer(e->retry_after_ms);

	return json_pack("{s:s, s:s, s:s, s:s, s:o}", "code", keybroker_code_name(e->code),
			 "message", e->message, "advice", e->advice, "socket", e->socket,
			 "retry_after_ms", after);
}

static void driver_fail(struct ask *a, const struct keybroker_error *e)
{
	(void)json_object_clear(a->answer);
	(void)json_object_set_new(a->answer, "error", driver_error(e));
}

static void driver_set(struct ask *a, const char *name, json_t *value)
{
	(void)json_object_set_new(a->answer, name, value);
}

static struct keybroker_lease *driver_get(struct ask *a)
{
	struct keybroker_lease *l = NULL;
	struct keybroker_error e = { 0 };

	if (keybroker_get(a->client->k, a->profile, &l, &e) != KEYBROKER_OK)
		driver_fail(a, &e);
	return l;
}

/* --- clients --- */

static void driver_log(void *data, const char *line)
{
	(void)data;
	(void)json_array_append_new(driver_logged, json_string(line));
}

static int64_t driver_option(const json_t *options, const char *name)
{
	const json_t *v = json_object_get(options, name);
	int64_t ms = json_integer_value(v);

	return v && ms <= 0 ? 1 : ms; /* 0 would be the library's own */
}

static void driver_open(struct client *c, const json_t *options)
{
	const struct keybroker_options o = {
		.socket = json_string_value(json_object_get(options, "socket")),
		.timeout_ms = driver_option(options, "timeout_ms"),
		.ack_after_ms = driver_option(options, "ack_after_ms"),
		.log = driver_log,
	};

	keybroker_close(c->k);
	if (keybroker_open(&c->k, &o, NULL) != KEYBROKER_OK)
		driver_die("no memory");
}

static struct client *driver_client(const json_t *request)
{
	const char *name = json_string_value(json_object_get(request, "client"));
	size_t i = 0;

	if (!name)
		name = "main";
	while (i < DRIVER_CLIENTS && driver_clients[i].name[0] &&
	       strcmp(driver_clients[i].name, name) != 0)
		i++;
	if (i == DRIVER_CLIENTS)
		driver_die("too many clients");
	(void)snprintf(driver_clients[i].name, sizeof(driver_clients[i].name), "%s", name);
	return &driver_clients[i];
}

/* --- what it is asked --- */

static void ask_open(struct ask *a)
{
	driver_open(a->client, json_object_get(a->request, "options"));
}

static void ask_api_key(struct ask *a)
{
	struct keybroker_lease *l = driver_get(a);

	if (l)
		driver_set(a, "key_hash", driver_key_hash(l));
	keybroker_lease_free(l);
}

static void ask_base_url(struct ask *a)
{
	struct keybroker_lease *l = driver_get(a);

	if (l)
		driver_set(a, "base_url", json_string(keybroker_lease_base_url(l)));
	keybroker_lease_free(l);
}

static void ask_credential(struct ask *a)
{
	struct keybroker_lease *l = driver_get(a);

	if (!l)
		return;
	int64_t expires = keybroker_lease_expires_at_ms(l);

	driver_set(a, "lease", json_string(keybroker_lease_id(l)));
	driver_set(a, "key_hash", driver_key_hash(l));
	driver_set(a, "generation", json_integer(keybroker_lease_generation(l)));
	driver_set(a, "mode", json_string(keybroker_lease_mode(l)));
	driver_set(a, "base_url", json_string(keybroker_lease_base_url(l)));
	driver_set(a, "expires_at_ms", expires ? json_integer(expires) : json_null());
	keybroker_lease_free(l);
}

static void ask_close(struct ask *a)
{
	keybroker_close(a->client->k);
	a->client->k = NULL;
}

static void ask_logged(struct ask *a)
{
	driver_set(a, "lines", json_deep_copy(driver_logged));
}

static void ask_show(struct ask *a)
{
	struct keybroker_lease *l = driver_get(a);
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
	(void)keybroker_get(a->client->k, "nosuch", &l, &e); /* is refused */
	(void)json_array_append_new(texts, json_string(e.message));
	(void)json_array_append_new(texts, json_string(e.advice));
	driver_set(a, "texts", texts);
}

/* --- calls to LiteLLM, with the retry that a transport would have --- */

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
	driver_hash(keybroker_lease_api_key(l), c->key_hash);
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
		driver_hash(keybroker_lease_api_key(l), c->key_hash);
	keybroker_lease_free(l);
	return NULL;
}

/* Runs it in `n` threads at once; the results are to be freed. */
static struct call *driver_at_once(const struct ask *a, size_t n, void *(*run)(void *))
{
	struct call *calls = calloc(n, sizeof(*calls));
	pthread_t threads[DRIVER_THREADS];

	if (!calls || n > DRIVER_THREADS)
		driver_die("too many at once");
	for (size_t i = 0; i < n; i++) {
		calls[i] = (struct call){ .k = a->client->k, .profile = a->profile };
		if (pthread_create(&threads[i], NULL, run, &calls[i]) != 0)
			driver_die("no thread");
	}
	for (size_t i = 0; i < n; i++)
		(void)pthread_join(threads[i], NULL);
	return calls;
}

static int driver_compare(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The different ones, sorted. */
static json_t *driver_different(const char **texts, size_t n)
{
	json_t *array = json_array();

	qsort(texts, n, sizeof(*texts), driver_compare);
	for (size_t i = 0; i < n; i++)
		if (i == 0 || strcmp(texts[i], texts[i - 1]) != 0)
			(void)json_array_append_new(array, json_string(texts[i]));
	return array;
}

static size_t driver_n(const struct ask *a)
{
	return (size_t)json_integer_value(json_object_get(a->request, "n"));
}

static void ask_many(struct ask *a)
{
	size_t n = driver_n(a), n_hashes = 0, n_codes = 0;
	struct call *calls = driver_at_once(a, n, get_thread);
	const char *hashes[DRIVER_THREADS], *codes[DRIVER_THREADS];

	for (size_t i = 0; i < n; i++)
		if (calls[i].code == KEYBROKER_OK)
			hashes[n_hashes++] = calls[i].key_hash;
		else
			codes[n_codes++] = keybroker_code_name(calls[i].code);
	driver_set(a, "key_hashes", driver_different(hashes, n_hashes));
	driver_set(a, "codes", driver_different(codes, n_codes));
	free(calls);
}

static void ask_calls(struct ask *a)
{
	size_t n = driver_n(a);
	struct call *calls = driver_at_once(a, n, call_thread);
	json_t *statuses = json_array();

	for (int status = -1; status < 600; status++) /* sorted */
		for (size_t i = 0; i < n; i++)
			if (calls[i].code == KEYBROKER_OK && calls[i].status == status) {
				(void)json_array_append_new(statuses, json_integer(status));
				break;
			}
	driver_set(a, "statuses", statuses);
	for (size_t i = 0; i < n; i++)
		if (calls[i].code != KEYBROKER_OK)
			driver_fail(a, &calls[i].error);
	free(calls);
}

static void ask_call(struct ask *a)
{
	struct call c = { .k = a->client->k,
			  .profile = a->profile,
			  .stream = json_is_true(json_object_get(a->request, "body_stream")) };

	if (driver_n(a) > 0) {
		ask_calls(a);
		return;
	}
	call_make(&c);
	if (c.code != KEYBROKER_OK) {
		driver_fail(a, &c.error);
		return;
	}
	driver_set(a, "status", json_integer(c.status));
	driver_set(a, "key_hash", json_string(c.key_hash));
}

/* The key is for the base URL's own scheme, host and port. */
static bool driver_same_origin(const char *a, const char *b)
{
	size_t n = strcspn(a, "/") + 2, m = n + strcspn(a + n, "/");

	return strncmp(a, b, m) == 0 && (b[m] == '/' || b[m] == '\0');
}

static void ask_call_other(struct ask *a)
{
	const char *url = json_string_value(json_object_get(a->request, "url"));
	struct keybroker_lease *l = driver_get(a);

	if (!l)
		return;
	bool own = driver_same_origin(keybroker_lease_base_url(l), url);
	driver_set(a, "status",
		   json_integer(http_get(url, own ? keybroker_lease_api_key(l) : NULL)));
	keybroker_lease_free(l);
}

/* --- a child of a fork --- */

static void driver_child(struct ask *a, int fd)
{
	ask_credential(a);
	(void)json_dumpfd(a->answer, fd, JSON_COMPACT);
	keybroker_close(a->client->k);
	_exit(0);
}

static void ask_child(struct ask *a)
{
	static const char *const fields[] = { "lease", "key_hash" };
	struct keybroker_lease *before = driver_get(a); /* so that the child inherits something */
	char name[32];
	int ends[2];

	if (!before || pipe(ends) < 0)
		return;
	pid_t pid = fork();
	if (pid == 0)
		driver_child(a, ends[1]);
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

/* --- the loop --- */

static const struct {
	const char *name;
	void (*run)(struct ask *a);
} driver_asks[] = {
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

static void driver_answer(const char *line)
{
	json_error_t error;
	struct ask a = { .request = json_loads(line, 0, &error), .answer = json_object() };
	const char *what = json_string_value(json_object_get(a.request, "ask"));
	double began = driver_now_ms();
	size_t i = 0;

	while (i < ARRAY_SIZE(driver_asks) && what && strcmp(driver_asks[i].name, what) != 0)
		i++;
	if (!what || i == ARRAY_SIZE(driver_asks))
		driver_die("asked for what it does not know");
	a.client = driver_client(a.request);
	a.profile = json_string_value(json_object_get(a.request, "profile"));
	if (!a.client->k && driver_asks[i].run != ask_open)
		driver_open(a.client, NULL);
	driver_asks[i].run(&a);
	driver_set(&a, "ms", json_real(driver_now_ms() - began));
	(void)json_dumpf(a.answer, stdout, JSON_COMPACT);
	(void)puts("");
	(void)fflush(stdout);
	json_decref(a.answer);
	json_decref(a.request);
}

static void driver_wait(void)
{
	struct pollfd polled[1 + DRIVER_CLIENTS] = { { .fd = STDIN_FILENO, .events = POLLIN } };

	for (size_t i = 0; i < DRIVER_CLIENTS; i++) {
		struct keybroker *k = driver_clients[i].k;

		polled[1 + i] = (struct pollfd){ .fd = k ? keybroker_fd(k) : -1, .events = POLLIN };
	}
	if (poll(polled, ARRAY_SIZE(polled), -1) < 0 && errno != EINTR)
		driver_die("cannot poll");
	for (size_t i = 0; i < DRIVER_CLIENTS; i++)
		if (polled[1 + i].revents)
			keybroker_dispatch(driver_clients[i].k);
}

/* False: the end. */
static bool driver_read(char *buf, size_t *n)
{
	struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
	char *end;

	if (poll(&p, 1, 0) <= 0)
		return true;
	ssize_t got = read(STDIN_FILENO, buf + *n, DRIVER_LINE - 1 - *n);
	if (got <= 0)
		return false;
	*n += (size_t)got;
	buf[*n] = '\0';
	while ((end = strchr(buf, '\n'))) {
		*end = '\0';
		driver_answer(buf);
		*n -= (size_t)(end + 1 - buf);
		memmove(buf, end + 1, *n + 1);
	}
	return true;
}

int main(void)
{
	static char buf[DRIVER_LINE];
	size_t n = 0;

	if (sodium_init() < 0)
		driver_die("no libsodium");
	driver_logged = json_array();
	while (driver_read(buf, &n))
		driver_wait();
	for (size_t i = 0; i < DRIVER_CLIENTS; i++)
		keybroker_close(driver_clients[i].k);
	json_decref(driver_logged);
	return 0;
}
