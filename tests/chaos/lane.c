/* What a lane does; it owns its connection. What has no reply is asked again until it has one. */
#include "lane.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/crypt.h"
#include "base/fd.h"
#include "proto/message.h"

#define HELLO_ID 1
#define REPLY_WAIT_USEC (30 * 1000000)
#define REPEAT_USEC_MAX (300 * 1000)
#define CONNECT_AGAIN_USEC 10000

struct load load = { .address.sun_family = AF_UNIX,
		     .name = "c",
		     .lanes = 16,
		     .rate = 100,
		     .dedicated_per_mille = 10,
		     .give_up_percent = 30 };
static uint64_t lane_requests;

int64_t lane_now_usec(void)
{
	return clock_monotonic_nsec() / 1000;
}

static uint32_t lane_dice(uint32_t sides)
{
	uint32_t n;

	crypt_random(&n, sizeof(n));
	return n % sides;
}

/* --- what to do next --- */

/* Uneven, so that requests meet: the mean of all lanes together makes the rate. */
static int64_t lane_pause(void)
{
	int64_t mean = load.lanes * 1000000 / load.rate;

	return load.draining ? 0 : mean * (lane_dice(1000) + lane_dice(1000)) / 1000;
}

static void lane_choose_acquire(struct lane *l)
{
	l->op = OP_ACQUIRE;
	l->profile = lane_dice(1000) < load.dedicated_per_mille ? "process" : "service";
	l->ttl_ms = lane_dice(2) ? 0 : lane_dice(10) ? 600000 : 1000 + lane_dice(2000);
	(void)snprintf(l->request, sizeof(l->request), "%s-%llu", load.name,
		       (unsigned long long)++lane_requests);
	printf("S %s %s\n", l->request, l->profile);
}

static void lane_choose(struct lane *l)
{
	if (l->lease[0])
		l->op = OP_RELEASE;
	else if (load.draining && !l->probe)
		l->due_usec = LANE_NEVER;
	else if (l->probe || lane_dice(4) == 0)
		l->op = OP_WHOAMI;
	else
		lane_choose_acquire(l);
}

/* Some leases of a short TTL are left to end by themselves. */
static void lane_leave_lease(struct lane *l)
{
	if (l->ttl_ms == 0 || l->ttl_ms >= 600000)
		return;
	printf("N %s\n", l->lease);
	l->lease[0] = '\0';
}

static void lane_next(struct lane *l)
{
	l->op = OP_NONE;
	l->due_usec = l->probe ? LANE_NEVER : lane_now_usec() + lane_pause();
}

/* --- sending --- */

static int lane_pack_acquire(const struct lane *l, struct buf *b)
{
	int r = pack_request(b, l->id, "acquire");

	r = r ? r : pack_map(b, l->ttl_ms ? 5 : 4);
	r = r ? r : pack_text(b, "profile");
	r = r ? r : pack_text(b, l->profile);
	r = r ? r : pack_text(b, "request_id");
	r = r ? r : pack_text(b, l->request);
	r = r ? r : pack_text(b, "timeout_ms");
	r = r ? r : pack_int(b, 2000);
	r = r ? r : pack_text(b, "bind");
	r = r ? r : pack_text(b, l->ttl_ms ? "ttl" : "process");
	if (r || !l->ttl_ms)
		return r;
	r = pack_text(b, "ttl_ms");
	return r ? r : pack_int(b, l->ttl_ms);
}

static int lane_pack_release(const struct lane *l, struct buf *b)
{
	int r = pack_request(b, l->id, "release");

	r = r ? r : pack_map(b, 1);
	r = r ? r : pack_text(b, "lease");
	return r ? r : pack_text(b, l->lease);
}

static int lane_pack_empty(uint32_t id, const char *method, struct buf *b)
{
	int r = pack_request(b, id, method);

	return r ? r : pack_map(b, 0);
}

static int lane_pack(const struct lane *l, struct buf *b)
{
	int r = l->fresh ? lane_pack_empty(HELLO_ID, "hello", b) : 0;

	if (r)
		return r;
	if (l->op == OP_ACQUIRE)
		return lane_pack_acquire(l, b);
	return l->op == OP_RELEASE ? lane_pack_release(l, b) : lane_pack_empty(l->id, "whoami", b);
}

static void lane_close(struct lane *l)
{
	fd_close(&l->fd);
	buf_deinit(&l->in);
	l->in = BUF_INIT(1 << 20);
}

/* Its connection is lost. What it waited for is asked again, or given up. */
static void lane_lost(struct lane *l)
{
	bool nothing_came = l->fresh;

	lane_close(l);
	if (l->op == OP_NONE)
		return;
	l->due_usec = lane_now_usec() + (nothing_came ? CONNECT_AGAIN_USEC / 10 : 0);
	if (l->op != OP_ACQUIRE || strcmp(l->profile, "process") != 0 ||
	    lane_dice(100) >= (uint32_t)load.give_up_percent)
		return;
	printf("L %s\n", l->request);
	lane_next(l);
}

static bool lane_connect(struct lane *l)
{
	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->fd < 0)
		return false;
	if (connect(l->fd, (const struct sockaddr *)&load.address, sizeof(load.address)) < 0) {
		printf("X %d %lld\n", errno, (long long)lane_now_usec());
		fd_close(&l->fd);
		return false;
	}
	l->fresh = true;
	l->id = HELLO_ID;
	l->since_usec = lane_now_usec();
	return true;
}

static void lane_send(struct lane *l)
{
	_cleanup_(buf_deinit) struct buf b = BUF_INIT(4096);

	if (l->fd < 0 && !lane_connect(l)) {
		l->due_usec = lane_now_usec() + CONNECT_AGAIN_USEC;
		return;
	}
	l->id++;
	if (lane_pack(l, &b) != 0)
		abort(); /* these are small */
	l->sent_usec = lane_now_usec();
	l->due_usec = l->sent_usec + REPLY_WAIT_USEC;
	l->sent = true;
	if (send(l->fd, b.data, b.len, MSG_NOSIGNAL) != (ssize_t)b.len)
		lane_lost(l);
}

void lane_act(struct lane *l)
{
	if (l->sent && l->fd >= 0 && l->op != OP_NONE &&
	    lane_now_usec() >= l->sent_usec + REPLY_WAIT_USEC) {
		printf("T %lld\n", (long long)lane_now_usec());
		lane_lost(l);
		return;
	}
	if (l->op == OP_NONE)
		lane_choose(l);
	if (l->op != OP_NONE)
		lane_send(l);
}

/* --- replies --- */

static void lane_acquired(struct lane *l, const struct value *result)
{
	const char *lease = value_text(value_get(result, "lease"));
	const char *key = value_text(value_get(result, "api_key"));
	char hash[SHA256_HEX_SIZE];
	int64_t generation = -1;

	(void)value_int(value_get(result, "generation"), &generation); /* stays -1 */
	if (!lease || !key)
		abort(); /* not the protocol */
	crypt_sha256_hex(key, strlen(key), hash);
	(void)snprintf(l->lease, sizeof(l->lease), "%s", lease);
	printf("A %s %s %s %lld %lld %lld\n", l->request, lease, hash, (long long)generation,
	       (long long)l->ttl_ms, (long long)lane_now_usec());
	lane_leave_lease(l);
}

static void lane_released(struct lane *l)
{
	printf("R %s %lld\n", l->lease, (long long)lane_now_usec());
	l->lease[0] = '\0';
}

static void lane_done(struct lane *l, const struct value *result)
{
	if (l->op == OP_ACQUIRE)
		lane_acquired(l, result);
	else if (l->op == OP_RELEASE)
		lane_released(l);
	else
		puts("W");
	lane_next(l);
}

static void lane_failed(struct lane *l, const struct value *error)
{
	static const char *const again[] = { "upstream_unavailable", "audit_unavailable",
					     "limit_exceeded" };
	const char *code = value_text(value_get(error, "code"));
	int64_t pause_ms = 10;

	if (!code)
		abort(); /* not the protocol */
	if (l->op == OP_RELEASE && strcmp(code, "unknown_lease") == 0) {
		lane_released(l); /* the first time, of which we did not hear */
		lane_next(l);
		return;
	}
	if (strcmp(code, "not_leader") == 0) {
		puts("U not_leader");
		lane_lost(l);
		return;
	}
	(void)value_int(value_get(error, "retry_after_ms"), &pause_ms); /* or 10 */
	l->due_usec = lane_now_usec() + MIN_OF(pause_ms * 1000, REPEAT_USEC_MAX);
	l->sent = false;
	for (size_t i = 0; i < ARRAY_SIZE(again); i++) {
		if (strcmp(code, again[i]) != 0)
			continue;
		printf("U %s\n", code);
		return;
	}
	printf("E %s %lld\n", code, (long long)lane_now_usec());
	lane_next(l);
}

static void lane_take(struct lane *l, const struct message *m)
{
	bool first = l->fresh;

	if (message_type(m) != MESSAGE_REPLY)
		return;
	if (message_id(m) == HELLO_ID) {
		l->term = -1;
		(void)value_int(value_get(message_result(m), "term"), &l->term); /* or an error */
		return;
	}
	if (message_id(m) != l->id || l->op == OP_NONE)
		return;
	l->fresh = false;
	if (first && message_result(m))
		printf("%s %lld %lld %lld\n", l->probe ? "P" : "F", (long long)l->since_usec,
		       (long long)lane_now_usec(), (long long)l->term);
	if (message_result(m))
		lane_done(l, message_result(m));
	else
		lane_failed(l, message_error(m));
	if (l->probe && l->op == OP_NONE)
		lane_close(l);
}

/* False: more bytes are needed, or the lane hung up. */
static bool lane_take_one(struct lane *l)
{
	_cleanup_(message_freep) struct message *m = NULL;
	size_t len;

	if (l->fd < 0 || l->in.len == 0)
		return false;
	switch (message_walk(l->in.data, l->in.len, &message_reply_limits, &len, NULL)) {
	case MESSAGE_INCOMPLETE:
		return false;
	case MESSAGE_COMPLETE:
		break;
	case MESSAGE_MALFORMED:
	case MESSAGE_TOO_LARGE:
		abort();
	}
	if (message_read(&m, l->in.data, len) != 0)
		abort();
	buf_consume(&l->in, len);
	lane_take(l, m);
	return true;
}

void lane_receive(struct lane *l)
{
	uint8_t *into;
	ssize_t n;

	if (buf_reserve(&l->in, 4096, &into) != 0)
		abort();
	n = recv(l->fd, into, 4096, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		lane_lost(l);
		return;
	}
	l->in.len += (size_t)n;
	while (lane_take_one(l))
		;
}

void lane_free(struct lane *l)
{
	lane_close(l);
}
