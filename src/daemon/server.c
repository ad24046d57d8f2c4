/*
 * Accepting: listening sockets, who may connect, and what happens when descriptors run out. The
 * connections themselves live in conn.c. Owns its listeners and connections; borrows base and
 * accounts.
 */
#include "daemon/server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/conn_set.h"
#include "io/peer.h"

/* Connections accepted per readiness of a socket: the rest waits behind what is served already. */
#define SERVER_ACCEPTS 16
/* Pause in accepting when descriptors or memory run out. */
#define SERVER_SHORTAGE_MS 100

/* What holds until server_set_limits(). */
static const struct server_limits server_limits_default = {
	.connections = 2048, .buffered_bytes = 256 << 10, .waiting = 4096, .idle_reap_ms = 10000
};

struct server_listener {
	struct server *server;
	int fd;
	bool admin;
	char name[PEER_LISTEN_SIZE];
	struct event event;
	TAILQ_ENTRY(server_listener) of_server;
};

struct server {
	struct conn_set conns;
	TAILQ_HEAD(, server_listener) listeners;
	struct event resume; /* pending while accepting pauses */
	bool short_of;	     /* in an episode of shortage, which was logged */
};

/* Lets the backlog wait: it keeps what it holds, and a readable socket would keep us spinning. */
static void server_pause(struct server *s, int r)
{
	const struct timeval pause = { .tv_usec = SERVER_SHORTAGE_MS * 1000 };
	struct server_listener *l;

	if (!s->short_of)
		log_error("new connections have to wait: %s", strerror(-r));
	s->short_of = true;
	/* event_del() fails for events never assigned only, evtimer_add() without memory only */
	TAILQ_FOREACH (l, &s->listeners, of_server)
		(void)event_del(&l->event);
	(void)evtimer_add(&s->resume, &pause);
}

static void server_resume(struct server *s)
{
	struct server_listener *l;

	if (s->conns.stopped)
		return;
	TAILQ_FOREACH (l, &s->listeners, of_server)
		if (event_add(&l->event, NULL) < 0)
			log_error("a listening socket cannot be watched");
}

static void server_on_resume(evutil_socket_t fd _unused_, short what _unused_, void *userdata)
{
	server_resume(userdata);
}

/* Who is accepted needs a second descriptor, for its process, and for a moment a third, to read of
 * it in /proc: without them it waits in the backlog. */
static int server_spare(int fd)
{
	int spares[3], error = 0;

	for (size_t i = 0; i < ARRAY_SIZE(spares); i++) {
		spares[i] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		error = spares[i] < 0 ? -errno : error;
	}
	for (size_t i = 0; i < ARRAY_SIZE(spares); i++)
		fd_close(&spares[i]);
	return error;
}

static int server_accept_one(struct server_listener *l)
{
	_cleanup_(fd_close) int fd = -1;
	struct peer peer;
	int pidfd = -1, r = server_spare(l->fd);

	if (r < 0)
		return r;
	fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return -errno;
	r = peer_read(fd, &peer, &pidfd);
	if (r < 0)
		return r;
	memcpy(peer.listen, l->name, sizeof(peer.listen));
	conn_add(&l->server->conns, &peer, take_fd(&fd), pidfd, l->admin);
	return 0;
}

/*
 * O_NONBLOCK is not to be relied on: it belongs to the open file, which other instances have too,
 * and a service manager that starts one of them may take it off again.
 */
static bool server_has_client(const struct server_listener *l)
{
	struct pollfd p = { .fd = l->fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

static void server_accept(struct server_listener *l)
{
	for (int n = 0; n < SERVER_ACCEPTS && server_has_client(l); n++) {
		int r = server_accept_one(l);

		if (r == -EAGAIN)
			return;
		if (r == 0)
			l->server->short_of = false;
		else if (r != -EINTR && r != -ECONNABORTED) {
			server_pause(l->server, r);
			return;
		}
	}
}

static void server_on_accept(evutil_socket_t fd _unused_, short what _unused_, void *userdata)
{
	server_accept(userdata);
}

int server_new(struct server **ret, struct event_base *base, struct accounts *accounts,
	       server_handle_fn handle, void *userdata)
{
	struct server *s = xcalloc(1, sizeof(*s));

	s->conns.base = base;
	s->conns.accounts = accounts;
	s->conns.handle = handle;
	s->conns.userdata = userdata;
	s->conns.limits = server_limits_default;
	TAILQ_INIT(&s->listeners);
	conn_set_init(&s->conns);
	(void)evtimer_assign(&s->resume, base, server_on_resume, s); /* fails without a base only */
	*ret = s;
	return 0;
}

static void server_listener_free(struct server_listener *l)
{
	TAILQ_REMOVE(&l->server->listeners, l, of_server);
	(void)event_del(&l->event); /* as in server_pause() */
	fd_close(&l->fd);
	free(l);
}

void server_free(struct server *s)
{
	struct server_listener *l;

	if (!s)
		return;
	while ((l = TAILQ_FIRST(&s->listeners)))
		server_listener_free(l);
	(void)event_del(&s->resume);
	conn_set_deinit(&s->conns);
	free(s);
}

void server_set_limits(struct server *s, const struct server_limits *limits)
{
	conn_set_limits(&s->conns, limits);
}

/* Who waits in its backlog hears of it and comes again, to the new one. */
static void server_unlisten(struct server *s, bool admin, const char *listen)
{
	struct server_listener *l;

	TAILQ_FOREACH (l, &s->listeners, of_server)
		if (l->admin == admin && strcmp(l->name, listen) == 0)
			break;
	if (l)
		server_listener_free(l);
}

int server_listen(struct server *s, int fd, bool admin, const char *listen)
{
	struct server_listener *l = xcalloc(1, sizeof(*l));
	const int on = 1;

	/* connections inherit it; before accept() the kernel notes who sends in any case */
	if (!peer_is_told() && setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0)
		log_warning("SO_PASSCRED: %s: requests will be denied", strerrordesc_np(errno));
	l->server = s;
	l->fd = fd;
	l->admin = admin;
	text_copy(l->name, sizeof(l->name), listen);
	if (event_assign(&l->event, s->conns.base, fd, EV_READ | EV_PERSIST, server_on_accept, l) <
		    0 ||
	    event_add(&l->event, NULL) < 0) {
		fd_close(&l->fd);
		free(l);
		return err_origin(-EIO);
	}
	server_unlisten(s, admin, listen);
	TAILQ_INSERT_TAIL(&s->listeners, l, of_server);
	return 0;
}

void server_begin_turn(struct server *s)
{
	conn_set_begin_turn(&s->conns);
}

int server_turn_room(const struct server *s)
{
	return s->conns.turn_left;
}

void server_stop(struct server *s)
{
	struct server_listener *l;

	TAILQ_FOREACH (l, &s->listeners, of_server)
		(void)event_del(&l->event); /* as in server_pause() */
	(void)event_del(&s->resume);
	conn_set_stop(&s->conns);
}

uint64_t server_connections(const struct server *s)
{
	return s->conns.n_open;
}
