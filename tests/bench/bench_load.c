/*
 * A load for the daemon: many connections with one request each under way. For each line on stdin
 * it has every connection make COUNT calls of METHOD and prints the seconds that this took; then,
 * outside of them, it releases the leases that came of it.
 * usage: bench_load SOCKET CONNECTIONS COUNT METHOD
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/crypt.h"
#include "base/macros.h"
#include "proto/message.h"

#define LOAD_REPLY_MAX (64 << 10)

struct load_connection {
	int fd;
	long left; /* calls of this round that it still makes */
	char (*leases)[ID_SIZE];
	long n_leases;
	uint8_t *reply;
	size_t n_reply;
};

struct load {
	struct load_connection *connections;
	long n_connections, count;
	int epoll_fd;
	const char *method;
	bool releasing;
};

_noreturn_ static void load_die(const char *what, const char *why)
{
	(void)fprintf(stderr, "bench_load: %s: %s\n", what, why);
	exit(1);
}

static void load_send(const struct load *l, struct load_connection *c)
{
	_cleanup_(buf_deinit) struct buf b = BUF_INIT(0);
	int r = pack_request(&b, 1, l->releasing ? "release" : l->method);

	r = r < 0 ? r : pack_map(&b, l->releasing || strcmp(l->method, "acquire") == 0);
	if (l->releasing) {
		r = r < 0 ? r : pack_text(&b, "lease");
		r = r < 0 ? r : pack_text(&b, c->leases[--c->n_leases]);
	} else if (strcmp(l->method, "acquire") == 0) {
		r = r < 0 ? r : pack_text(&b, "bind");
		r = r < 0 ? r : pack_text(&b, "ttl");
	}
	if (r < 0 || send(c->fd, b.data, b.len, MSG_NOSIGNAL) != (ssize_t)b.len)
		load_die("send", strerror(errno));
}

/* Looks for it in the bytes: unpacking every reply would make the load the slower side. */
static void load_keep_lease(struct load_connection *c)
{
	static_assert(ID_SIZE - 1 == 16, "the length in the header of its text");
	static const char name[] = "\xa5lease\xb0"; /* and 16 bytes of text */
	const char *at = memmem(c->reply, c->n_reply, name, sizeof(name) - 1);

	if (!at)
		return;
	memcpy(c->leases[c->n_leases], at + sizeof(name) - 1, ID_SIZE - 1);
	c->leases[c->n_leases++][ID_SIZE - 1] = '\0';
}

/* True once the connection's reply is here as a whole. */
static bool load_receive(const struct load *l, struct load_connection *c)
{
	ssize_t n = recv(c->fd, c->reply + c->n_reply, LOAD_REPLY_MAX - c->n_reply, 0);
	size_t len;

	if (n <= 0)
		load_die("recv", n == 0 ? "the daemon hung up" : strerror(errno));
	c->n_reply += (size_t)n;
	if (message_walk(c->reply, c->n_reply, &message_reply_limits, &len, NULL) ==
	    MESSAGE_INCOMPLETE)
		return false;
	if (c->reply[3] !=
	    0xc0) /* [1, id, error, result] with the id in one byte: nil comes here */
		load_die(l->releasing ? "release" : l->method, "an error reply");
	if (!l->releasing)
		load_keep_lease(c);
	c->n_reply = 0;
	return true;
}

static void load_begin(const struct load *l, struct load_connection *c, long calls, long *busy)
{
	c->left = calls;
	if (calls == 0)
		return;
	(*busy)++;
	load_send(l, c);
}

static void load_phase(struct load *l, bool releasing)
{
	struct epoll_event events[64];
	long busy = 0;

	l->releasing = releasing;
	for (long i = 0; i < l->n_connections; i++)
		load_begin(l, &l->connections[i], releasing ? l->connections[i].n_leases : l->count,
			   &busy);
	while (busy > 0) {
		int n = epoll_wait(l->epoll_fd, events, ARRAY_SIZE(events), -1);

		for (int i = 0; i < n; i++) {
			struct load_connection *c = events[i].data.ptr;

			if (!load_receive(l, c))
				continue;
			if (--c->left > 0)
				load_send(l, c);
			else
				busy--;
		}
	}
}

static void load_connect(struct load *l, struct load_connection *c, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = c };

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, c->fd, &event) < 0)
		load_die(path, strerror(errno));
	c->leases = xcalloc((size_t)l->count, sizeof(*c->leases));
	c->reply = xcalloc(1, LOAD_REPLY_MAX);
}

int main(int argc, char **argv)
{
	struct load l = { .epoll_fd = epoll_create1(EPOLL_CLOEXEC) };
	char line[16];

	if (argc != 5)
		load_die("usage", "bench_load SOCKET CONNECTIONS COUNT METHOD");
	l.n_connections = strtol(argv[2], NULL, 10);
	l.count = strtol(argv[3], NULL, 10);
	l.method = argv[4];
	l.connections = xcalloc((size_t)l.n_connections, sizeof(*l.connections));
	for (long i = 0; i < l.n_connections; i++)
		load_connect(&l, &l.connections[i], argv[1]);
	while (fgets(line, sizeof(line), stdin)) {
		int64_t start = clock_monotonic_nsec();

		load_phase(&l, false);
		(void)printf("%.9f\n", (double)(clock_monotonic_nsec() - start) / 1e9);
		(void)fflush(stdout);
		if (fgets(line, sizeof(line),
			  stdin)) /* whoever measures may look at the state first */
			load_phase(&l, true);
		(void)puts("released");
		(void)fflush(stdout);
	}
	return 0; /* the system takes connections and memory back */
}
