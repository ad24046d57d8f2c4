/*
 * For the tests of cached credentials: a broker in a process of its own that keeps leases, tells of
 * rotations and counts what it was asked. The test steers it through shared memory.
 */
#pragma once

#include "test_listening.h"

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include "clients/c/call.h"
#include "clients/c/wire.h"
#include "proto/message.h"

enum { LEASES_CONNECTIONS = 64 };

/* What the test and its broker share. */
struct leases {
	/* set by the test */
	atomic_int generation; /* of the shared key: a new one is told to who watches */
	atomic_int revoked;    /* how many times all leases were revoked */
	atomic_int known;      /* leases below this number are unknown */
	atomic_int life_ms;    /* of a key; 0: never ends */
	atomic_bool denies, mute;
	atomic_bool quiet;  /* tells nothing */
	atomic_int behind;  /* so many answers still have the key before */
	atomic_int verdict; /* of a report: an enum keybroker_verdict */
	/* counted by the broker */
	atomic_int connections, acquires, anew, watches, acks, reports, releases, acked;
};

struct fake {
	struct place place;
	struct leases *shared;
	pid_t pid;
};

struct leases_peer {
	int fd;
	bool watches;
	uint8_t bytes[20000];
	size_t n;
};

static _unused_ int leases_text(struct buf *b, const char *name, const char *text)
{
	int r = pack_text(b, name);

	return r < 0 ? r : pack_text(b, text);
}

static _unused_ int leases_int(struct buf *b, const char *name, int64_t n)
{
	int r = pack_text(b, name);

	return r < 0 ? r : pack_int(b, n);
}

static _unused_ int64_t leases_wall_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static _unused_ int leases_acquire(struct buf *b, struct leases *s, const struct message *m)
{
	const char *lease = value_text(value_get(message_params(m), "lease"));
	int number = lease ? atoi(lease) : ++s->anew;
	int generation = s->behind > 0 && s->behind-- > 0 ? s->generation - 1 : s->generation;
	char id[16], key[64];

	s->acquires++;
	if (s->denies)
		return pack_error(b, message_id(m), "denied", "no rule for you", -1);
	if (number < s->known)
		return pack_error(b, message_id(m), "unknown_lease", "no such lease", -1);
	(void)snprintf(id, sizeof(id), "%d", number);
	(void)snprintf(key, sizeof(key), "sk-of-the-test-generation-%d", generation);
	return pack_result(b, message_id(m)) | pack_map(b, s->life_ms ? 6 : 5) |
	       leases_text(b, "lease", id) | leases_text(b, "profile", "service") |
	       leases_text(b, "api_key", key) |
	       leases_text(b, "base_url", "http://127.0.0.1:4000/v1") |
	       leases_int(b, "generation", generation) |
	       (s->life_ms ? leases_int(b, "expires_at_ms", leases_wall_ms() + s->life_ms) : 0);
}

static _unused_ int leases_report(struct buf *b, struct leases *s, const struct message *m)
{
	static const char *const states[] = { "unknown", "alive", "replaced", "dead" };

	s->reports++;
	return pack_result(b, message_id(m)) | pack_map(b, 1) |
	       leases_text(b, "state", states[s->verdict]);
}

static _unused_ int leases_answer(struct buf *b, struct leases *s, struct leases_peer *p,
				  const struct message *m)
{
	const char *method = message_method(m);
	int64_t generation = 0;

	if (strcmp(method, "acquire") == 0)
		return leases_acquire(b, s, m);
	if (strcmp(method, "report") == 0)
		return leases_report(b, s, m);
	if (strcmp(method, "ack") == 0) {
		s->acks++;
		(void)value_int(value_get(message_params(m), "generation"), &generation);
		s->acked = (int)generation;
	} else if (strcmp(method, "watch") == 0) {
		s->watches++;
		p->watches = true;
	} else if (strcmp(method, "release") == 0) {
		s->releases++;
	}
	return pack_result(b, message_id(m)) | pack_map(b, 0);
}

/* False: it has hung up. */
static _unused_ bool leases_serve(struct leases *s, struct leases_peer *p)
{
	ssize_t got = read(p->fd, p->bytes + p->n, sizeof(p->bytes) - p->n);
	size_t len;

	if (got <= 0)
		return false;
	p->n += (size_t)got;
	while (message_walk(p->bytes, p->n, &message_request_limits, &len, NULL) ==
	       MESSAGE_COMPLETE) {
		struct buf b = BUF_INIT(0);
		_cleanup_(message_freep) struct message *m = NULL;

		if (message_read(&m, p->bytes, len) != 0)
			_exit(4);
		memmove(p->bytes, p->bytes + len, p->n - len);
		p->n -= len;
		if (leases_answer(&b, s, p, m) != 0)
			_exit(3);
		if (!s->mute && write(p->fd, b.data, b.len) != (ssize_t)b.len)
			return false;
		buf_deinit(&b);
	}
	return true;
}

static _unused_ void leases_tell(const struct leases *s, const struct leases_peer *p,
				 const char *method)
{
	struct buf b = BUF_INIT(0);

	for (int i = 1; i <= s->anew; i++) {
		char id[16];

		(void)snprintf(id, sizeof(id), "%d", i);
		if ((pack_notification(&b, method) | pack_map(&b, 2) |
		     leases_text(&b, "lease", id) | leases_int(&b, "generation", s->generation)) !=
		    0)
			_exit(5);
	}
	(void)!write(p->fd, b.data, b.len); /* it may have gone */
	buf_deinit(&b);
}

static _unused_ void leases_run(int listen_fd, struct leases *s)
{
	static struct leases_peer peers[LEASES_CONNECTIONS];
	struct pollfd polled[LEASES_CONNECTIONS + 1];
	int generation = s->generation, revoked = s->revoked, n = 0;

	for (;;) {
		polled[0] = (struct pollfd){ .fd = listen_fd, .events = POLLIN };
		for (int i = 0; i < n; i++)
			polled[i + 1] = (struct pollfd){ .fd = peers[i].fd, .events = POLLIN };
		(void)poll(polled, (nfds_t)n + 1, 1);
		for (int i = n - 1; i >= 0; i--) {
			if (generation != s->generation && peers[i].watches && !s->quiet)
				leases_tell(s, &peers[i], "rotated");
			if (revoked != s->revoked && peers[i].watches)
				leases_tell(s, &peers[i], "revoked");
			if (polled[i + 1].revents && !leases_serve(s, &peers[i])) {
				(void)close(peers[i].fd);
				peers[i] = peers[--n];
			}
		}
		generation = s->generation;
		revoked = s->revoked;
		if (polled[0].revents && n < LEASES_CONNECTIONS) {
			peers[n] = (struct leases_peer){ .fd = accept(listen_fd, NULL, NULL) };
			n++;
			s->connections++;
		}
	}
}

static _unused_ void fake_start(struct fake *f)
{
	pid_t test = getpid();

	f->pid = fork();
	assert_true(f->pid >= 0);
	if (f->pid == 0) {
		(void)alarm(60);
		(void)signal(SIGPIPE, SIG_IGN);
		if (getppid() == test)
			leases_run(f->place.listen_fd, f->shared);
		_exit(0);
	}
	(void)close(f->place.listen_fd);
	f->place.listen_fd = -1;
}

static _unused_ void fake_kill(struct fake *f)
{
	if (f->pid <= 0)
		return;
	(void)kill(f->pid, SIGKILL);
	(void)waitpid(f->pid, NULL, 0);
	f->pid = 0;
}

/* Another one at the same place, which knows the leases. */
static _unused_ void fake_again(struct fake *f)
{
	fake_kill(f);
	(void)unlink(f->place.path);
	place_listen(&f->place);
	fake_start(f);
}

static _unused_ int fake_setup(void **state)
{
	struct fake *f = calloc(1, sizeof(*f));
	void *place;

	assert_non_null(f);
	assert_int_equal(setup(&place), 0);
	f->place = *(struct place *)place;
	free(place);
	f->shared = mmap(NULL, sizeof(*f->shared), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(f->shared, MAP_FAILED);
	f->shared->generation = 1;
	fake_start(f);
	*state = f;
	return 0;
}

static _unused_ int fake_teardown(void **state)
{
	struct fake *f = *state;

	fake_kill(f);
	(void)unlink(f->place.path);
	(void)rmdir(f->place.dir);
	(void)munmap(f->shared, sizeof(*f->shared));
	free(f);
	return 0;
}

static _unused_ struct keybroker *fake_open(const struct fake *f, int64_t timeout_ms,
					    int64_t ack_after_ms)
{
	const struct keybroker_options o = { .socket = f->place.path,
					     .timeout_ms = timeout_ms,
					     .ack_after_ms = ack_after_ms };
	struct keybroker *k = NULL;

	assert_int_equal(keybroker_open(&k, &o, NULL), KEYBROKER_OK);
	return k;
}

/* The generation of the key that a call gets; < 0: the error's code. */
static _unused_ int fake_get(struct keybroker *k)
{
	_cleanup_(keybroker_lease_freep) struct keybroker_lease *l = NULL;
	enum keybroker_code code = keybroker_get(k, NULL, &l, NULL);

	return code == KEYBROKER_OK ? (int)keybroker_lease_generation(l) : -(int)code;
}

/* Waits for something to become true, doing something meanwhile. */
#define WAIT_UNTIL(condition, meanwhile)                           \
	do {                                                       \
		int64_t wait_end = wire_now_ms() + 10000;          \
		while (!(condition) && wire_now_ms() < wait_end) { \
			meanwhile;                                 \
			wire_pause(1, INT64_MAX);                  \
		}                                                  \
		assert_true(condition);                            \
	} while (0)

#define FAKE_TEST(f) cmocka_unit_test_setup_teardown(f, fake_setup, fake_teardown)
