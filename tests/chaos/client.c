/*
 * The load of the torture run: lanes that acquire, release and ask, each over a connection of its
 * own, and probes that connect anew at fixed times whatever became of those before. What has no
 * reply is asked again with the same request_id until it has one. Everything that was
 * acknowledged goes to stdout before it is used, one line each, for the checker:
 *
 *   S REQUEST PROFILE                            an acquire was sent, for the first time
 *   A REQUEST LEASE SHA256 GENERATION TTL_MS USEC  it was acknowledged (TTL_MS 0: bound to the
 * process) R LEASE USEC     W                           a release; a whoami L REQUEST        N
 * LEASE                     an acquire nobody waits for any more; a lease left to its end E CODE
 * USEC      T USEC                      an error that is not to be repeated; no reply for 30 s F
 * SINCE USEC TERM   P SINCE USEC TERM        the first reply of a lane's connection; of a probe X
 * ERRNO USEC     Z                           connect() failed; everything was given back
 *
 * All USEC are of CLOCK_MONOTONIC. No key is ever written.
 */
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/crypt.h"
#include "lane.h"

#define PROBES 512 /* that may wait at once */

static const char *socket_path;

static void client_on_signal(int sig)
{
	(void)sig;
	load.draining = 1;
}

struct client {
	struct lane *lanes;
	struct pollfd *polled;
	size_t n;
	int64_t probe_usec; /* the next */
};

/* Open loop: the next probe starts at its time, even if none before it was answered. */
static void client_probe(struct client *c, int64_t now)
{
	if (load.probe_usec == 0 || load.draining || now < c->probe_usec)
		return;
	c->probe_usec = MAX_OF(c->probe_usec + load.probe_usec, now - 10 * load.probe_usec);
	for (size_t i = (size_t)load.lanes; i < c->n; i++) {
		struct lane *l = &c->lanes[i];

		if (l->op == OP_NONE && l->fd < 0) {
			lane_act(l);
			return;
		}
	}
}

static int client_timeout(const struct client *c, int64_t now)
{
	int64_t next = load.probe_usec && !load.draining ? c->probe_usec : now + 100000;

	for (size_t i = 0; i < c->n; i++)
		next = MIN_OF(next, c->lanes[i].due_usec);
	return (int)MAX_OF((next - now + 999) / 1000, 0);
}

static bool client_is_idle(const struct client *c)
{
	for (size_t i = 0; i < c->n; i++)
		if (c->lanes[i].op != OP_NONE || c->lanes[i].lease[0])
			return false;
	return true;
}

static void client_turn(struct client *c)
{
	int64_t now = lane_now_usec();

	client_probe(c, now);
	for (size_t i = 0; i < c->n; i++) {
		struct lane *l = &c->lanes[i];

		if (load.draining && l->op == OP_NONE && l->due_usec != LANE_NEVER)
			l->due_usec = now;
		if (l->due_usec <= now)
			lane_act(l);
		c->polled[i] = (struct pollfd){ .fd = l->fd, .events = POLLIN };
	}
	/* before anything that was acknowledged is used: a killed client loses no record */
	if (fflush(stdout) != 0)
		exit(1);
	if (poll(c->polled, c->n, client_timeout(c, lane_now_usec())) <= 0)
		return;
	for (size_t i = 0; i < c->n; i++)
		if (c->polled[i].revents && c->lanes[i].fd == c->polled[i].fd)
			lane_receive(&c->lanes[i]);
}

static void client_options(int argc, char **argv)
{
	static const struct option known[] = {
		{ "socket", required_argument, NULL, 's' },
		{ "name", required_argument, NULL, 'n' },
		{ "lanes", required_argument, NULL, 'l' },
		{ "rate", required_argument, NULL, 'r' },
		{ "dedicated-per-mille", required_argument, NULL, 'd' },
		{ "give-up-percent", required_argument, NULL, 'g' },
		{ "probe-usec", required_argument, NULL, 'p' },
		{ 0 },
	};
	long *const numbers[] = { ['l'] = &load.lanes,
				  ['r'] = &load.rate,
				  ['d'] = &load.dedicated_per_mille,
				  ['g'] = &load.give_up_percent,
				  ['p'] = &load.probe_usec };
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) >= 0) {
		if (c == 's')
			socket_path = optarg;
		else if (c == 'n')
			load.name = optarg;
		else if (c == '?')
			exit(64);
		else
			*numbers[c] = strtol(optarg, NULL, 10);
	}
}

int main(int argc, char **argv)
{
	struct client c = { .probe_usec = lane_now_usec() };
	struct sigaction end = { .sa_handler = client_on_signal };
	static char output[1 << 20];

	client_options(argc, argv);
	if (!socket_path || strlen(socket_path) >= sizeof(load.address.sun_path) ||
	    load.lanes < 0 || load.rate < 1 || crypt_init() != 0)
		return 64;
	(void)strcpy(load.address.sun_path, socket_path);
	(void)setvbuf(stdout, output, _IOFBF, sizeof(output));
	(void)sigaction(SIGTERM, &end, NULL);
	c.n = (size_t)load.lanes + (load.probe_usec ? PROBES : 0);
	c.lanes = xcalloc(c.n, sizeof(*c.lanes));
	c.polled = xcalloc(c.n, sizeof(*c.polled));
	for (size_t i = 0; i < c.n; i++)
		c.lanes[i] = (struct lane){ .fd = -1,
					    .in = BUF_INIT(1 << 20),
					    .probe = i >= (size_t)load.lanes,
					    .due_usec = i < (size_t)load.lanes ? lane_now_usec()
									       : LANE_NEVER };
	while (!load.draining || !client_is_idle(&c))
		client_turn(&c);
	for (size_t i = 0; i < c.n; i++)
		lane_free(&c.lanes[i]);
	free(c.lanes);
	free(c.polled);
	puts("Z");
	return fflush(stdout) == 0 ? 0 : 1;
}
