/*
 * The program that the scenarios drive (clients/README.md, "The driver"): a JSON object a line in,
 * one line out. It is an event loop, as a program would have one: between the lines it dispatches
 * what the library's descriptors say.
 */
#include "driver.h"

#include <errno.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { DRIVER_CLIENTS = 16, DRIVER_LINE = 65536 };

struct client {
	char name[64];
	struct keybroker *k;
};

static struct client driver_clients[DRIVER_CLIENTS];
static json_t *driver_logged;

static double driver_now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1000 + (double)t.tv_nsec / 1e6;
}

void driver_die(const char *what)
{
	(void)fprintf(stderr, "driver: %s\n", what);
	exit(70);
}

/* --- clients --- */

static void driver_log(void *data, const char *line)
{
	(void)data;
	(void)json_array_append_new(driver_logged, json_string(line));
}

const json_t *driver_lines(void)
{
	return driver_logged;
}

static int64_t driver_option(const json_t *options, const char *name)
{
	const json_t *v = json_object_get(options, name);
	int64_t ms = json_integer_value(v);

	return v && ms <= 0 ? 1 : ms; /* 0 would be the library's own */
}

void driver_open(struct keybroker **client, const json_t *options)
{
	const struct keybroker_options o = {
		.socket = json_string_value(json_object_get(options, "socket")),
		.timeout_ms = driver_option(options, "timeout_ms"),
		.ack_after_ms = driver_option(options, "ack_after_ms"),
		.log = driver_log,
	};

	keybroker_close(*client);
	if (keybroker_open(client, &o, NULL) != KEYBROKER_OK)
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

/* --- the loop --- */

static void driver_answer(const char *line)
{
	json_error_t error;
	struct ask a = { .request = json_loads(line, 0, &error), .answer = json_object() };
	const char *what = json_string_value(json_object_get(a.request, "ask"));
	double began = driver_now_ms();
	ask_fn *run = ask_find(what);

	if (!run)
		driver_die("asked for what it does not know");
	a.client = &driver_client(a.request)->k;
	a.profile = json_string_value(json_object_get(a.request, "profile"));
	if (!*a.client && run != ask_open)
		driver_open(a.client, NULL);
	run(&a);
	ask_set(&a, "ms", json_real(driver_now_ms() - began));
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
