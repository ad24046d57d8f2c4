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

/*
 * Arrays by enum handover_socket; from HANDOVER_OWN on, those of the `listen` sections that there
 * were at the start. What a reload changes about them waits for a restart.
 */
struct listeners {
	struct daemon *d;
	size_t n;
	char *paths[HANDOVER_MAX];  /* owned, as the names */
	char *names[HANDOVER_MAX];  /* "" for the first two */
	gid_t groups[HANDOVER_MAX]; /* (gid_t)-1: none */
	int fds[HANDOVER_MAX];
	struct handover_place places[HANDOVER_MAX]; /* of the socket files when we got them */
	bool activated[HANDOVER_MAX]; /* the service manager's: the file is its business */
	bool lacking[HANDOVER_MAX];   /* the other instance has none either */
	bool foreign[HANDOVER_MAX];   /* said: something else is at the path */
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
		handover_answer(asking, l->fds, l->places, l->n);
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

static void listeners_add(struct listeners *l, const char *path, const char *name, gid_t group)
{
	l->paths[l->n] = xstrdup(path);
	l->names[l->n] = xstrdup(name);
	l->groups[l->n] = group;
	l->places[l->n] = listeners_place(path);
	l->n++;
}

int listeners_new(struct daemon *d)
{
	struct listeners *l = xcalloc(1, sizeof(*l));

	d->listeners = l;
	l->d = d;
	l->inst_fd = -1;
	listeners_add(l, d->config->socket_path, "", (gid_t)-1);
	listeners_add(l, d->config->admin_socket_path, "", (gid_t)-1);
	for (size_t i = 0; i < d->config->n_listens; i++) {
		const struct rule *r = &d->config->listens[i];

		listeners_add(l, r->path, r->name, r->has_gid ? r->gid : (gid_t)-1);
	}
	(void)activation_take((const char *const *)l->paths, l->n, l->fds);
	/* one of the first two alone is of no use: they are passed on together */
	for (size_t i = 0; i < HANDOVER_OWN; i++)
		if (l->fds[HANDOVER_OWN - 1 - i] < 0)
			fd_close(&l->fds[i]);
	for (size_t i = 0; i < l->n; i++)
		l->activated[i] = l->fds[i] >= 0;
	l->inst_path = listeners_inst_path(l, d->self.holder);
	listeners_open_private(l);
	return 0;
}

void listeners_free(struct listeners *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < l->n; i++) {
		fd_close(&l->fds[i]);
		free(l->paths[i]);
		free(l->names[i]);
	}
	if (l->inst_fd >= 0)
		(void)unlink(l->inst_path); /* stays at worst: nobody answers there */
	listeners_close_private(l);
	free(l->inst_path);
	free(l);
}

static bool listeners_has(const struct listeners *l, const struct rule *r)
{
	bool found = false;

	for (size_t i = HANDOVER_OWN; i < l->n && !found; i++)
		found = strcmp(r->name, l->names[i]) == 0 && strcmp(r->path, l->paths[i]) == 0 &&
			(r->has_gid ? r->gid : (gid_t)-1) == l->groups[i];
	return found;
}

bool listeners_differ(const struct listeners *l, struct config *c)
{
	bool differ = c->n_listens != l->n - HANDOVER_OWN;

	for (size_t i = 0; i < c->n_listens; i++) {
		c->listens[i].waits = !listeners_has(l, &c->listens[i]);
		differ = differ || c->listens[i].waits;
	}
	return differ;
}

/* --- asking the others --- */

struct asking {
	struct listeners *l;
	struct leader leader; /* was asked first: it may have failed to register */
	struct pollfd asked[LISTENERS_ASKED];
	nfds_t n;
};

static int listeners_ask(const struct leader *row, void *userdata)
{
	struct asking *a = userdata;
	_cleanup_(freep) char *path = listeners_inst_path(a->l, row->holder);
	int fd;

	if (strcmp(row->holder, a->l->d->self.holder) == 0 ||
	    strcmp(row->holder, a->leader.holder) == 0)
		return 0;
	fd = handover_ask(path);
	if (fd >= 0)
		a->asked[a->n++] = (struct pollfd){ .fd = fd, .events = POLLIN };
	return a->n < LISTENERS_ASKED ? 0 : 1;
}

/* Is the socket that we have the one at the path? */
static bool listeners_is_right(const struct listeners *l, size_t i)
{
	struct handover_place now = listeners_place(l->paths[i]);

	return l->fds[i] >= 0 && (l->activated[i] || listeners_same(&now, &l->places[i]));
}

static bool listeners_are_right(const struct listeners *l)
{
	bool right = true;

	for (size_t i = 0; i < l->n && right; i++)
		right = l->lacking[i] || listeners_is_right(l, i);
	return right;
}

static void listeners_replace(struct listeners *l, int fds[], const struct handover_place places[])
{
	for (size_t i = 0; i < l->n; i++) {
		l->lacking[i] = fds[i] < 0;
		if (fds[i] < 0)
			continue;
		fd_close(&l->fds[i]);
		l->fds[i] = fds[i];
		l->places[i] = places[i];
	}
}

/* Takes the first good answer; the others are not waited for. */
static bool listeners_take(struct listeners *l, struct asking *a)
{
	struct handover_place places[HANDOVER_MAX];
	int fds[HANDOVER_MAX];

	for (nfds_t i = 0; i < a->n; i++) {
		int r = a->asked[i].revents
				? handover_take(a->asked[i].fd, (const char *const *)l->paths, l->n,
						fds, places)
				: -EAGAIN;

		if (r == -EADDRNOTAVAIL)
			log_warning(
				"another instance over this state listens elsewhere, not on %s and %s",
				l->paths[HANDOVER_CLIENT], l->paths[HANDOVER_ADMIN]);
		if (r != -EAGAIN)
			fd_close(&a->asked[i].fd); /* poll() skips it */
		if (r < 0)
			continue;
		listeners_replace(l, fds, places);
		if (listeners_are_right(l))
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
	struct leader leader;
	bool got = false;

	if (store_read_leader(l->d->store, &leader) == 0 && leader.pid) {
		(void)listeners_ask(&leader, &a); /* there is room for it */
		a.leader = leader;
	}
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

/* Who may connect: of the clients' socket in system mode a group; of a `listen` section its group,
 * or all whom its directory lets through. */
static void listeners_mode(const struct listeners *l, size_t i, mode_t *ret_dir, mode_t *ret_mode,
			   gid_t *ret_group)
{
	bool shared = l->d->config->system_mode && i == HANDOVER_CLIENT;
	const struct group *group = shared ? getgrnam(LISTENERS_CLIENTS_GROUP) : NULL;

	if (shared && !group)
		log_warning("there is no group %s: only root and this user can reach %s",
			    LISTENERS_CLIENTS_GROUP, l->paths[i]);
	*ret_dir = shared || i >= HANDOVER_OWN ? 0755 : 0700;
	*ret_group = group ? group->gr_gid : l->groups[i];
	*ret_mode = *ret_group != (gid_t)-1 ? 0660 : i >= HANDOVER_OWN ? 0666 : 0600;
}

static int listeners_make(struct listeners *l, size_t i)
{
	const char *path = l->paths[i];
	mode_t dir_mode, mode;
	gid_t group;
	int fd = -1;
	int r;

	listeners_mode(l, i, &dir_mode, &mode, &group);
	r = socket_listen(path, dir_mode, mode, group, &fd);
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
	if (mode == 0666 && socket_is_public(path))
		log_warning("listen \"%s\": each user of this host can reach %s and may have its "
			    "profiles: put it below a directory of mode 0700, or name a group",
			    l->names[i], path);
	fd_close(&l->fds[i]);
	l->fds[i] = fd;
	l->places[i] = listeners_place(path);
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

/* Has the file of a `listen` section the group and mode that it should have? A reload may have
 * changed them since it was made. */
static bool listeners_fits(const struct listeners *l, size_t i)
{
	mode_t dir_mode, mode;
	struct stat st;
	gid_t group;

	if (l->activated[i] || i < HANDOVER_OWN || stat(l->paths[i], &st) < 0)
		return true;
	listeners_mode(l, i, &dir_mode, &mode, &group);
	return (st.st_mode & ALLPERMS) == mode && (group == (gid_t)-1 || st.st_gid == group);
}

/* Those that nobody has; it is looked at all of them before any is made: nothing is replaced if it
 * cannot be each. */
static int listeners_make_missing(struct listeners *l)
{
	bool missing[HANDOVER_MAX] = { false };
	int r = 0;

	for (size_t i = 0; i < l->n; i++)
		missing[i] = !listeners_is_right(l, i) || !listeners_fits(l, i);
	/* the first two come from one hand */
	missing[HANDOVER_CLIENT] = missing[HANDOVER_ADMIN] =
		missing[HANDOVER_CLIENT] || missing[HANDOVER_ADMIN];
	for (size_t i = 0; i < l->n; i++)
		if (missing[i])
			listeners_clear(l, l->paths[i]);
	for (size_t i = HANDOVER_ADMIN; i < l->n; i++)
		if (missing[i] && socket_is_served(l->paths[i])) {
			log_error("%s: another broker answers there", l->paths[i]);
			return EX_TEMPFAIL;
		}
	for (size_t i = 0; i < l->n && r == 0; i++)
		if (missing[i])
			r = listeners_make(l, i);
	return r;
}

static int listeners_accept(struct listeners *l, size_t i)
{
	int fd = fcntl(l->fds[i], F_DUPFD_CLOEXEC, 3);

	return fd >= 0 && server_listen(l->d->server, fd, i == HANDOVER_ADMIN, l->names[i]) == 0
		       ? 0
		       : EX_OSERR;
}

int listeners_serve(struct listeners *l)
{
	int r;

	(void)listeners_look(l); /* what it does not get is made */
	r = listeners_make_missing(l);
	for (size_t i = 0; i < l->n && r == 0; i++)
		r = listeners_accept(l, i);
	return r;
}

void listeners_mind(struct listeners *l)
{
	listeners_keep_private(l);
	for (size_t i = 0; i < l->n; i++) {
		struct handover_place now = listeners_place(l->paths[i]);

		if (l->activated[i])
			continue;
		if (now.ino == 0) {
			log_warning("%s was removed; it is made anew", l->paths[i]);
			if (listeners_make(l, i) == 0)
				(void)listeners_accept(l, i); /* else at the next tick */
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
