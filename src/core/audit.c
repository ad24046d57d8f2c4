/* The canonical bytes of an audit row: what the chain covers. Changing this breaks every existing
 * chain. */
#include "core/audit.h"

#include <string.h>

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
	memcpy(row->unit, peer->unit, sizeof(row->unit));
	memcpy(row->exe, peer->exe, sizeof(row->exe));
}

static void audit_big_endian(uint8_t *to, uint64_t v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		to[i] = (uint8_t)(v >> (8 * (n - 1 - i)));
}

static int audit_encode_int(struct buf *b, uint64_t v)
{
	uint8_t bytes[8];

	audit_big_endian(bytes, v, sizeof(bytes));
	return buf_append(b, bytes, sizeof(bytes));
}

static int audit_encode_text(struct buf *b, const char *text)
{
	size_t n = strlen(text);
	uint8_t length[4];
	int r;

	audit_big_endian(length, n, sizeof(length));
	r = buf_append(b, length, sizeof(length));
	return r < 0 ? r : buf_append(b, text, n);
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
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(head) && r == 0; i++)
		r = audit_encode_int(b, head[i]);
	for (size_t i = 0; i < ARRAY_SIZE(words) && r == 0; i++)
		r = audit_encode_text(b, words[i]);
	for (size_t i = 0; i < ARRAY_SIZE(peer) && r == 0; i++)
		r = audit_encode_int(b, peer[i]);
	for (size_t i = 0; i < ARRAY_SIZE(rest) && r == 0; i++)
		r = audit_encode_text(b, rest[i]);
	return r;
}
