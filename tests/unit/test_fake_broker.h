/* For the tests of the C client: a server that does with each request what it is told. */
#pragma once

#include "test_listening.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "clients/c/call.h"
#include "clients/c/fault.h"
#include "clients/c/wire.h"
#include "proto/message.h"

/* What the fake server does with one request that it has read. */
enum act {
	ACT_END,   /* no more requests are expected */
	ACT_LEASE, /* a good reply to acquire; the request_id becomes the lease id */
	ACT_BOUND, /* the same; its mode is what the lease is bound to */
	ACT_EMPTY, /* an empty result */
	ACT_DENIED,
	ACT_NOT_LEADER,
	ACT_UNKNOWN_LEASE,
	ACT_NOTE_THEN_EMPTY, /* a notification first, and the reply byte by byte */
	ACT_FEED,	     /* a reply, then notifications of two kinds, then EOF */
	ACT_HALF,	     /* half a reply, then EOF */
	ACT_EOF,
	ACT_GARBAGE,
	ACT_HUGE,     /* a header that claims 4 GiB */
	ACT_OTHER_ID, /* a reply to something else */
	ACT_SILENCE,  /* nothing, until the client goes */
};

/* The next whole request, or NULL at EOF. */
static _unused_ struct message *serve_read(int fd)
{
	uint8_t bytes[20000];
	struct message *m = NULL;
	size_t n = 0, len;

	while (message_walk(bytes, n, &message_request_limits, &len, NULL) != MESSAGE_COMPLETE) {
		ssize_t got = read(fd, bytes + n, sizeof(bytes) - n);

		if (got <= 0)
			return NULL;
		n += (size_t)got;
	}
	return message_read(&m, bytes, len) == 0 ? m : NULL;
}

static _unused_ int pack_pair(struct buf *b, const char *name, const char *text)
{
	int r = pack_text(b, name);

	return r < 0 ? r : pack_text(b, text);
}

static _unused_ int serve_pack(struct buf *b, enum act act, const struct message *m)
{
	uint32_t id = message_id(m);

	switch (act) {
	case ACT_LEASE:
		return pack_result(b, id) | pack_map(b, 3) |
		       pack_pair(b, "lease",
				 value_text(value_get(message_params(m), "request_id"))) |
		       pack_pair(b, "api_key", "sk-of-the-test") |
		       pack_pair(b, "base_url", "http://127.0.0.1:4000/v1");
	case ACT_BOUND:
		return pack_result(b, id) | pack_map(b, 4) |
		       pack_pair(b, "lease",
				 value_text(value_get(message_params(m), "request_id"))) |
		       pack_pair(b, "mode", value_text(value_get(message_params(m), "bind"))) |
		       pack_pair(b, "api_key", "sk-of-the-test") |
		       pack_pair(b, "base_url", "http://127.0.0.1:4000/v1");
	case ACT_NOTE_THEN_EMPTY:
		return pack_notification(b, "rotated") | pack_map(b, 0) | pack_result(b, id) |
		       pack_map(b, 0);
	case ACT_FEED:
		return pack_result(b, id) | pack_map(b, 0) | pack_notification(b, "audit") |
		       pack_map(b, 1) | pack_pair(b, "event", "first") |
		       pack_notification(b, "rotated") | pack_map(b, 0) |
		       pack_notification(b, "audit") | pack_map(b, 1) |
		       pack_pair(b, "event", "second");
	case ACT_HALF:
	case ACT_EMPTY:
		return pack_result(b, id) | pack_map(b, 0);
	case ACT_OTHER_ID:
		return pack_result(b, id + 1) | pack_map(b, 0);
	case ACT_DENIED:
		return pack_error(b, id, "denied", "no rule for you", -1);
	case ACT_NOT_LEADER:
		return pack_error(b, id, "not_leader", "stopping", 1);
	case ACT_UNKNOWN_LEASE:
		return pack_error(b, id, "unknown_lease", "no such lease", -1);
	case ACT_GARBAGE:
		return buf_append(b, "HTTP/1.1 400 Bad Request\r\n", 26);
	case ACT_HUGE:
		return buf_append(b, "\x94\x01\x01\xc0\x81\xa1k\xdb\xff\xff\xff\xff", 12);
	case ACT_END:
	case ACT_EOF:
	case ACT_SILENCE:
		break;
	}
	return 0;
}

static _unused_ bool serve_write(int fd, const struct buf *b, enum act act)
{
	size_t n = act == ACT_HALF ? b->len / 2 : b->len;
	size_t step = act == ACT_NOTE_THEN_EMPTY ? 1 : n;

	for (size_t at = 0; at < n; at += step)
		if (write(fd, b->data + at, step) != (ssize_t)step)
			return false;
	return true;
}

/* One connection: acts until one of them ends it. Yields the number of acts used. */
static _unused_ size_t serve_connection(int fd, const enum act *acts)
{
	size_t used = 0;

	while (acts[used] != ACT_END) {
		_cleanup_(message_freep) struct message *m = serve_read(fd);
		struct buf b = BUF_INIT(0);
		enum act act = acts[used];

		if (!m)
			return used;
		used++;
		if (serve_pack(&b, act, m) != 0 || !serve_write(fd, &b, act))
			_exit(3);
		buf_deinit(&b);
		if (act == ACT_HALF || act == ACT_EOF || act == ACT_FEED)
			return used;
		if (act == ACT_SILENCE)
			(void)serve_read(fd); /* yields at EOF */
	}
	return used;
}

/* Serves in a process of its own, until each act was used or the client lets go too early. */
static _unused_ pid_t serve(const struct place *p, const enum act *acts)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid != 0)
		return pid;
	(void)alarm(30);
	while (*acts != ACT_END) {
		int fd = accept(p->listen_fd, NULL, NULL);

		if (fd < 0)
			_exit(2);
		acts += serve_connection(fd, acts);
		(void)close(fd);
	}
	_exit(0);
}

static _unused_ void served(pid_t pid)
{
	int status = -1;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static _unused_ struct keybroker *open_client(const struct place *p, int64_t timeout_ms)
{
	const struct keybroker_options o = { .socket = p->path, .timeout_ms = timeout_ms };
	struct keybroker *k = NULL;

	assert_int_equal(call_open(&k, &o, false, NULL, NULL), KEYBROKER_OK);
	return k;
}

static _unused_ enum keybroker_code call_method(struct keybroker *k, const char *method, bool once,
						struct keybroker_error *e)
{
	const struct call call = { .method = method, .once = once };
	_cleanup_(message_freep) struct message *reply = NULL;

	return keybroker_call(k, &call, &reply, e);
}
