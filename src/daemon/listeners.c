/* Owns the descriptors; the server gets copies of its own. */
#include "daemon/listeners.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "daemon/daemon.h"
#include "daemon/server.h"
#include "io/activation.h"
#include "io/handover.h"
#include "io/socket.h"
#include "io/store_instance.h"

#define LISTENERS_CLIENTS_GROUP "keybroker-clients"
#define LISTENERS_ASKED 16	 /* instances that are asked at the same time */
#define LISTENERS_ANSWER_MS 1000 /* a broker that serves a socket has answered by then */

struct listeners {
	struct daemon *d;
	const char *paths[HANDOVER_N];
	int fds[HANDOVER_N];
	struct handover_place places[HANDOVER_N]; /* of the socket files when we got them */
	bool activated;		  /* the service manager's: the files are its business */
	bool foreign[HANDOVER_N]; /* said: something else is at the path */
	char *inst_path;
	int inst_fd;
	struct event *inst_event;
};

static struct handover_place listeners_place(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return (struct handover_place){ 0 };
	return (struct handover_place){ .dev = st.st_dev, .ino = st.st_ino };
}

static bool listeners_same(const struct handover_place *a, const struct handover_place *b)
{
	return a->dev == b->dev && a->ino == b->ino;
}

static char *listeners_inst_path(const struct listeners *l, const char *holder)
{
	const char *admin = l->paths[HANDOVER_ADMIN];
	const char *slash = strrchr(admin, '/');

	return xasprintf("%.*s/inst-%s.sock", slash ? (int)(slash - admin) : 1, slash ? admin : ".",
			 holder);
}

static void listeners_on_ask(int fd, short what, void *userdata)
{
	struct listeners *l = userdata;
	int asking;

	(void)what;
	while ((asking = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0)
		handover_answer(asking, l->fds, l->places);
}

/* Without it others cannot get the sockets from us: they make new ones when we are gone. */
static void listeners_open_private(struct listeners *l)
{
	if (socket_listen(l->inst_path, 0700, 0600, (gid_t)-1, &l->inst_fd) != 0) {
		log_warning("%s: no other instance can take the sockets over from this one",
			    l->inst_path);
		return;
	}
	l->inst_event =
		event_new(l->d->base, l->inst_fd, EV_READ | EV_PERSIST, listeners_on_ask, l);
	if (!l->inst_event || event_add(l->inst_event, NULL) < 0)
		abort(); /* out of memory */
}

static void listeners_close_private(struct listeners *l)
{
	if (l->inst_event)
		event_free(TAKE(l->inst_event));
	fd_close(&l->inst_fd);
}

/* The directory may have been emptied, or made anew. */
static void listeners_keep_private(struct listeners *l)
{
	if (listeners_place(l->inst_path).ino != 0)
		return;
	listeners_close_private(l);
	listeners_open_private(l);
}

int listeners_new(struct daemon *d)
{
	struct listeners *l = xcalloc(1, sizeof(*l));

	d->listeners = l;
	l->d = d;
	l->inst_fd = -1;
	l->paths[HANDOVER_CLIENT] = d->config->socket_path;
	l->paths[HANDOVER_ADMIN] = d->config->admin_socket_path;
	l->activated = activation_take(l->paths, l->fds) == HANDOVER_N;
	for (size_t i = 0; i < HANDOVER_N && !l->activated; i++)
		fd_close(&l->fds[i]); /* one alone is of no use: both are passed on together */
	l->inst_path = listeners_inst_path(l, d->self.holder);
	for (size_t i = 0; i < HANDOVER_N; i++)
		l->places[i] = listeners_place(l->paths[i]);
	listeners_open_private(l);
	return 0;
}

void listeners_free(struct listeners *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < HANDOVER_N; i++)
		fd_close(&l->fds[i]);
	if (l->inst_fd >= 0)
		(void)unlink(l->inst_path); /* stays at worst: nobody answers there */
	listeners_close_private(l);
	free(l->inst_path);
	free(l);
}

/* --- asking the others --- */

struct asking {
	struct listeners *l;
	struct pollfd asked[LISTENERS_ASKED];
	nfds_t n;
};

static int listeners_ask(const struct leader *row, void *userdata)
{
	struct asking *a = userdata;
	_cleanup_(freep) char *path = listeners_inst_path(a->l, row->holder);
	int fd;

	if (strcmp(row->holder, a->l->d->self.holder) == 0)
		return 0;
	fd = handover_ask(path);
	if (fd >= 0)
		a->asked[a->n++] = (struct pollfd){ .fd = fd, .events = POLLIN };
	return a->n < LISTENERS_ASKED ? 0 : 1;
}

/* Are the sockets that we have those at the paths? */
static bool listeners_are_right(const struct listeners *l)
{
	bool right = l->fds[HANDOVER_CLIENT] >= 0;

	for (size_t i = 0; i < HANDOVER_N && right && !l->activated; i++) {
		struct handover_place now = listeners_place(l->paths[i]);

		right = listeners_same(&now, &l->places[i]);
	}
	return right;
}

/* Takes the first good answer; the others are not waited for. */
static bool listeners_take(struct listeners *l, struct asking *a)
{
	struct handover_place places[HANDOVER_N];
	int fds[HANDOVER_N];

	for (nfds_t i = 0; i < a->n; i++) {
		int r = a->asked[i].revents ? handover_take(a->asked[i].fd, l->paths, fds, places)
					    : -EAGAIN;

		if (r == -EADDRNOTAVAIL)
			log_warning(
				"another instance over this state listens elsewhere, not on %s and %s",
				l->paths[HANDOVER_CLIENT], l->paths[HANDOVER_ADMIN]);
		if (r != -EAGAIN)
			fd_close(&a->asked[i].fd); /* poll() skips it */
		if (r < 0)
			continue;
		for (size_t j = 0; j < HANDOVER_N; j++) {
			fd_close(&l->fds[j]);
			l->fds[j] = fds[j];
			l->places[j] = places[j];
		}
		if (l->activated || listeners_are_right(l))
			return true; /* else they were replaced: somebody else may have the new ones
				      */
	}
	return false;
}

static bool listeners_get(struct listeners *l)
{
	int64_t until = clock_monotonic_nsec() / 1000000 + l->d->config->timing.handover_ms;
	struct asking a = { .l = l };
	int64_t left = l->d->config->timing.handover_ms;
	bool got = false;

	if (store_each_instance(l->d->store, listeners_ask, &a) < 0 || a.n == 0)
		return false;
	while (!got && left > 0 && poll(a.asked, a.n, (int)left) > 0) {
		bool open = false;

		got = listeners_take(l, &a);
		for (nfds_t i = 0; i < a.n; i++)
			open = open || a.asked[i].fd >= 0;
		left = open ? until - clock_monotonic_nsec() / 1000000 : 0;
	}
	for (nfds_t i = 0; i < a.n; i++)
		fd_close(&a.asked[i].fd);
	return got;
}

bool listeners_look(struct listeners *l)
{
	listeners_keep_private(l);
	return listeners_are_right(l) || listeners_get(l);
}

/* --- making and serving them --- */

static int listeners_make(struct listeners *l, enum handover_socket which)
{
	const char *path = l->paths[which];
	bool shared = l->d->config->system_mode && which == HANDOVER_CLIENT;
	const struct group *group = shared ? getgrnam(LISTENERS_CLIENTS_GROUP) : NULL;
	int fd = -1;
	int r;

	if (shared && !group)
		log_warning("there is no group %s: only root and this user can reach %s",
			    LISTENERS_CLIENTS_GROUP, path);
	r = socket_listen(path, shared ? 0755 : 0700, group ? 0660 : 0600,
			  group ? group->gr_gid : (gid_t)-1, &fd);
	if (r == SOCKET_E_SERVED) {
		log_error("%s: another broker answers there", path);
		return EX_TEMPFAIL;
	}
	if (r == SOCKET_E_ACCESS)
		return EX_CONFIG;
	if (r < 0) {
		log_error("%s: cannot listen: %s", path, strerrordesc_np(-r));
		return EX_OSERR;
	}
	fd_close(&l->fds[which]);
	l->fds[which] = fd;
	l->places[which] = listeners_place(path);
	return 0;
}

static int listeners_find_pid(const struct leader *row, void *userdata)
{
	const pid_t *pid = userdata;

	return row->pid == *pid;
}

/* Does who accepts say anything, or hang up, when asked as a client asks? */
static bool listeners_is_served(int fd)
{
	static const char hello[] = "\x94\x00\x00\xa5hello\x90"; /* proto/PROTOCOL.md */
	struct pollfd p = { .fd = fd, .events = POLLIN };

	if (send(fd, hello, sizeof(hello) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return errno == EPIPE || errno == ECONNRESET;
	return poll(&p, 1, LISTENERS_ANSWER_MS) > 0;
}

/* Who made the socket is one of us, or dead without heirs. */
static bool listeners_made_by_us(const struct listeners *l, const char *path)
{
	_cleanup_(fd_close) int fd = handover_ask(path);
	struct ucred peer = { 0 };
	socklen_t n = sizeof(peer);

	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0 || peer.pid <= 0)
		return false;
	if (store_each_instance(l->d->store, listeners_find_pid, &peer.pid) == 1)
		return true;
	/* its maker is dead, but has handed it on: whose heirs answer are another state's */
	return kill(peer.pid, 0) < 0 && errno == ESRCH && !listeners_is_served(fd);
}

/*
 * What accepts connections at the path may be the socket of an instance that is stopped, which
 * hands nothing over: nobody will serve those. Anything else stays, and socket_listen() says so.
 */
static void listeners_clear(const struct listeners *l, const char *path)
{
	if (!listeners_made_by_us(l, path))
		return;
	log_warning("%s: who has this socket does not hand it over; it is made anew", path);
	(void)unlink(path); /* what stays is seen when it is to be replaced */
}

static int listeners_make_all(struct listeners *l)
{
	int r;

	for (size_t i = 0; i < HANDOVER_N; i++)
		listeners_clear(l, l->paths[i]);
	/* Both are looked at before either is made: nothing is replaced if it cannot be both. */
	if (socket_is_served(l->paths[HANDOVER_ADMIN])) {
		log_error("%s: another broker answers there", l->paths[HANDOVER_ADMIN]);
		return EX_TEMPFAIL;
	}
	r = listeners_make(l, HANDOVER_CLIENT);
	return r ? r : listeners_make(l, HANDOVER_ADMIN);
}

static int listeners_accept(struct listeners *l, enum handover_socket which)
{
	int fd = fcntl(l->fds[which], F_DUPFD_CLOEXEC, 3);

	return fd >= 0 && server_listen(l->d->server, fd, which == HANDOVER_ADMIN) == 0 ? 0
											: EX_OSERR;
}

int listeners_serve(struct listeners *l)
{
	int r = listeners_look(l) ? 0 : listeners_make_all(l);

	r = r ? r : listeners_accept(l, HANDOVER_CLIENT);
	return r ? r : listeners_accept(l, HANDOVER_ADMIN);
}

void listeners_mind(struct listeners *l)
{
	listeners_keep_private(l);
	for (size_t i = 0; i < HANDOVER_N && !l->activated; i++) {
		struct handover_place now = listeners_place(l->paths[i]);
		enum handover_socket which = (enum handover_socket)i;

		if (now.ino == 0) {
			log_warning("%s was removed; it is made anew", l->paths[i]);
			if (listeners_make(l, which) == 0)
				(void)listeners_accept(l, which); /* else at the next tick */
		} else if (listeners_same(&now, &l->places[i])) {
			l->foreign[i] = false;
		} else if (!l->foreign[i]) {
			l->foreign[i] = true;
			log_error(
				"%s is no longer this broker's socket: clients reach something else there",
				l->paths[i]);
		}
	}
}

bool listeners_answers(const struct listeners *l, const struct leader *instance)
{
	_cleanup_(freep) char *path = listeners_inst_path(l, instance->holder);
	int fd = handover_ask(path);

	if (fd >= 0)
		(void)close(fd);
	return fd >= 0;
}

void listeners_forget(const struct listeners *l, const struct leader *instance)
{
	_cleanup_(freep) char *path = listeners_inst_path(l, instance->holder);

	if (!listeners_answers(l, instance))
		(void)unlink(path); /* what stays is in nobody's way */
}
