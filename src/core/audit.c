/* The canonical bytes of an audit row: what the chain covers. Changing this breaks every existing
 * chain. */
#include "core/audit.h"

#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

/* Said of a peer that shows pid 0, unless there is more to say. */
#define AUDIT_FOREIGN "its process is in a foreign pid namespace"

void audit_init(struct audit_row *row)
{
	*row = (struct audit_row){ .uid = -1, .gid = -1, .pid = -1 };
}

void audit_set_peer(struct audit_row *row, const struct peer *peer)
{
	row->uid = peer->uid;
	row->gid = peer->gid;
	row->pid = peer->pid;
	row->start_time = peer->start_time;
	(void)snprintf(row->unit, sizeof(row->unit), "%s%s%s", peer->unit,
		       peer->user_unit[0] ? "/" : "", peer->user_unit); /* fits */
	memcpy(row->exe, peer->exe, sizeof(row->exe));
	if (peer->pid == 0)
		(void)snprintf(row->detail, sizeof(row->detail), "%s", AUDIT_FOREIGN);
}

void audit_clean(struct audit_row *row)
{
	utf8_clean(row->unit);
	utf8_clean(row->exe);
	utf8_clean(row->detail);
}

static void audit_big_endian(uint8_t *to, uint64_t v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		to[i] = (uint8_t)(v >> (8 * (n - 1 - i)));
}

static uint8_t *audit_encode_ints(uint8_t *to, const uint64_t *values, size_t n)
{
	for (size_t i = 0; i < n; i++, to += 8)
		audit_big_endian(to, values[i], 8);
	return to;
}

static uint8_t *audit_encode_texts(uint8_t *to, const char *const *texts, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		size_t length = strlen(texts[i]);

		audit_big_endian(to, length, 4);
		memcpy(to + 4, texts[i], length);
		to += 4 + length;
	}
	return to;
}

static size_t audit_texts_size(const char *const *texts, size_t n)
{
	size_t size = 4 * n;

	for (size_t i = 0; i < n; i++)
		size += strlen(texts[i]);
	return size;
}

int audit_encode(const struct audit_row *row, struct buf *b)
{
	const uint64_t head[] = { row->sequence, (uint64_t)row->wall_ms, (uint64_t)row->boot_ms,
				  row->term };
	const char *const words[] = { row->instance, row->event,   row->outcome,
				      row->rule,     row->profile, row->lease };
	const uint64_t peer[] = { (uint64_t)row->uid, (uint64_t)row->gid, (uint64_t)row->pid,
				  row->start_time };
	const char *const rest[] = { row->unit, row->exe, row->key_tag, row->detail };
	size_t n = sizeof(head) + sizeof(peer) + audit_texts_size(words, ARRAY_SIZE(words)) +
		   audit_texts_size(rest, ARRAY_SIZE(rest));
	uint8_t *to;
	int r = buf_reserve(b, n, &to);

	if (r < 0)
		return r;
	to = audit_encode_ints(to, head, ARRAY_SIZE(head));
	to = audit_encode_texts(to, words, ARRAY_SIZE(words));
	to = audit_encode_ints(to, peer, ARRAY_SIZE(peer));
	(void)audit_encode_texts(to, rest, ARRAY_SIZE(rest)); /* where nothing follows */
	b->len += n;
	return 0;
}
