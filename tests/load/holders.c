/*
 * Many holders of one shared key, a process each: every one acquires, watches, and makes LLM calls
 * without an end; when it is told of a rotation it takes the new key and acknowledges it, or, as a
 * fixed one, goes on with the key that it has. Prints the sums as one line of JSON; no key is ever
 * written. A call fails if its answer is not 200.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "clients/c/call.h"
#include "clients/c/wire.h"
#include "proto/message.h"

static struct {
	const char *socket, *profile;
	long clients, fixed, silent, seconds, pause_ms;
} load = { .profile = "service", .clients = 10, .seconds = 5, .pause_ms = 250 };

/* What one holder has to say; small enough for one write to a pipe. */
struct sums {
	int64_t calls, failed, switches;
	char why[256]; /* the first failure */
};

struct holder {
	struct keybroker *calls, *watch;
	struct keybroker_lease *lease;
	bool fixed, silent; /* silent: takes each key and acknowledges none */
	int http;
	bool reused; /* the connection has carried a call before */
	struct sums sums;
};

static void holder_die(const char *what, const struct keybroker_error *e)
{
	(void)fprintf(stderr, "holders: %s: %s\n", what, e ? e->message : "");
	_exit(1);
}

static int holder_connect(const struct holder *h)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	char host[64];
	unsigned short port;
	int on = 1;

	if (sscanf(keybroker_lease_base_url(h->lease), "http://%63[^:/]:%hu", host, &port) != 2 ||
	    inet_pton(AF_INET, host, &to.sin_addr) != 1)
		holder_die("the base URL is not http://ADDRESS:PORT", NULL);
	to.sin_port = htons(port);
	_cleanup_(fd_close) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&to, sizeof(to)) < 0)
		return -1;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* slower without */
	return take_fd(&fd);
}

/* The status of one answer, read to its end; 0: the connection ended before its first byte. */
static int holder_read_answer(int fd)
{
	static char text[65536];
	size_t n = 0, head = 0, length = 0;
	int status = -1;

	while (head == 0 || n < head + length) {
		ssize_t got = recv(fd, text + n, sizeof(text) - 1 - n, 0);
		const char *end, *field;

		if (got <= 0)
			return n == 0 ? 0 : -1;
		n += (size_t)got;
		text[n] = '\0';
		end = head == 0 ? strstr(text, "\r\n\r\n") : NULL;
		if (!end)
			continue;
		head = (size_t)(end - text) + 4;
		field = strcasestr(text, "\r\ncontent-length:");
		length = field ? strtoul(field + 17, NULL, 10) : 0;
		if (sscanf(text, "HTTP/1.1 %d", &status) != 1 || head + length >= sizeof(text))
			return -1;
	}
	return status;
}

static bool holder_send(const struct holder *h)
{
	static const char body[] =
		"{\"model\":\"gpt-5\",\"messages\":[{\"role\":\"user\",\"content\":\"ping\"}]}";
	char text[1024];
	int n = snprintf(
		text, sizeof(text),
		"POST /v1/chat/completions HTTP/1.1\r\nHost: llm\r\nAuthorization: Bearer %s\r\n"
		"Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
		keybroker_lease_api_key(h->lease), sizeof(body) - 1, body);
	bool sent = send(h->http, text, (size_t)n, MSG_NOSIGNAL) == n;

	explicit_bzero(text, sizeof(text));
	return sent;
}

/* A connection that was idle may have been closed meanwhile: that is no call yet. */
static int holder_status(struct holder *h)
{
	for (;;) {
		bool reused = h->reused;
		int status;

		if (h->http < 0) {
			h->http = holder_connect(h);
			reused = false;
		}
		status = h->http >= 0 && holder_send(h) ? holder_read_answer(h->http) : 0;
		h->reused = status > 0;
		if (status <= 0)
			fd_close(&h->http);
		if (status != 0 || !reused)
			return status;
	}
}

static void holder_call(struct holder *h)
{
	int status = holder_status(h);

	h->sums.calls++;
	if (status == 200)
		return;
	if (h->sums.failed++ == 0)
		(void)snprintf(h->sums.why, sizeof(h->sums.why),
			       "generation %lld, lease %s: status %d",
			       (long long)keybroker_lease_generation(h->lease),
			       keybroker_lease_id(h->lease), status);
}

static void holder_acquire(struct holder *h)
{
	char id[64] = "";
	struct keybroker_lease *l = NULL;
	struct keybroker_error e;

	if (h->lease)
		(void)snprintf(id, sizeof(id), "%s", keybroker_lease_id(h->lease));
	const struct keybroker_request request = { .profile = load.profile,
						   .lease = *id ? id : NULL,
						   .fixed = h->fixed };
	if (keybroker_acquire(h->calls, &request, &l, &e) != KEYBROKER_OK)
		holder_die("acquire", &e);
	keybroker_lease_free(h->lease);
	h->lease = l;
}

static void holder_ask(struct keybroker *k, const struct call *call)
{
	_cleanup_(message_freep) struct message *m = NULL;
	struct keybroker_error e;

	if (keybroker_call(k, call, &m, &e) != KEYBROKER_OK)
		holder_die(call->method, &e);
}

/* Its calls are made one after the other, so none with the old key is under way. */
static void holder_switch(struct holder *h)
{
	int64_t before = keybroker_lease_generation(h->lease);

	holder_acquire(h);
	if (keybroker_lease_generation(h->lease) == before)
		return;
	h->sums.switches++;
	const struct call_param params[] = {
		CALL_PARAM_TEXT("lease", keybroker_lease_id(h->lease)),
		CALL_PARAM_INT("generation", keybroker_lease_generation(h->lease)),
	};
	const struct call ack = { "ack", params, ARRAY_SIZE(params), false, false };
	if (!h->silent)
		holder_ask(h->calls, &ack);
}

static void holder_pause(struct holder *h, int64_t ms)
{
	_cleanup_(message_freep) struct message *m = NULL;
	struct keybroker_error e;
	enum keybroker_code code = keybroker_next(h->watch, ms, &m, &e);

	if (code == KEYBROKER_TIMEOUT)
		return;
	if (code != KEYBROKER_OK)
		holder_die("watch", &e);
	if (strcmp(message_method(m), "rotated") == 0)
		holder_switch(h);
}

static void holder_run(long number, int out)
{
	const struct keybroker_options options = { .socket = load.socket, .timeout_ms = 60000 };
	const struct call watch = { .method = "watch" };
	struct holder h = { .fixed = number < load.fixed, .http = -1 };
	struct keybroker_error e;

	h.silent = !h.fixed && number < load.fixed + load.silent;
	if (call_open(&h.calls, &options, false, NULL, &e) != KEYBROKER_OK ||
	    call_open(&h.watch, &options, false, NULL, &e) != KEYBROKER_OK)
		holder_die("connect", &e);
	holder_acquire(&h);
	holder_ask(h.watch, &watch);
	int64_t until = wire_now_ms() + load.seconds * 1000;
	holder_pause(&h, load.pause_ms * number / load.clients); /* not all at once */
	while (wire_now_ms() < until) {
		holder_call(&h);
		holder_pause(&h, load.pause_ms);
	}
	keybroker_lease_free(h.lease);
	if (write(out, &h.sums, sizeof(h.sums)) != sizeof(h.sums))
		holder_die("the sums cannot be told", NULL);
}

static int holders_sum(int in)
{
	struct sums all = { 0 }, one;
	long n = 0;
	int status, bad = 0;

	while (read(in, &one, sizeof(one)) == sizeof(one)) {
		n++;
		all.calls += one.calls;
		all.failed += one.failed;
		all.switches += one.switches;
		if (one.failed && !all.why[0])
			memcpy(all.why, one.why, sizeof(all.why));
	}
	while (wait(&status) > 0)
		bad += status != 0;
	printf("{\"clients\":%ld,\"lost\":%d,\"calls\":%lld,\"failed\":%lld,\"switches\":%lld,\"why\":\"%s\"}\n",
	       n, bad, (long long)all.calls, (long long)all.failed, (long long)all.switches,
	       all.why);
	return fflush(stdout) == 0 ? 0 : 1;
}

static void holders_options(int argc, char **argv)
{
	static const struct option known[] = {
		{ "socket", required_argument, NULL, 's' },
		{ "profile", required_argument, NULL, 'p' },
		{ "clients", required_argument, NULL, 'c' },
		{ "fixed", required_argument, NULL, 'f' },
		{ "silent", required_argument, NULL, 'q' },
		{ "seconds", required_argument, NULL, 't' },
		{ "pause-ms", required_argument, NULL, 'w' },
		{ 0 },
	};
	long *const numbers[] = { ['c'] = &load.clients,
				  ['f'] = &load.fixed,
				  ['q'] = &load.silent,
				  ['t'] = &load.seconds,
				  ['w'] = &load.pause_ms };
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) >= 0) {
		if (c == 's')
			load.socket = optarg;
		else if (c == 'p')
			load.profile = optarg;
		else if (c == '?')
			exit(64);
		else
			*numbers[c] = strtol(optarg, NULL, 10);
	}
}

int main(int argc, char **argv)
{
	int sums[2];

	holders_options(argc, argv);
	if (!load.socket || load.clients < 1 || pipe2(sums, O_CLOEXEC) < 0)
		return 64;
	for (long i = 0; i < load.clients; i++) {
		pid_t child = fork();

		if (child < 0)
			return 71;
		if (child > 0)
			continue;
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* for a test that is interrupted */
		(void)close(sums[0]);
		holder_run(i, sums[1]);
		_exit(0);
	}
	(void)close(sums[1]);
	return holders_sum(sums[0]);
}
