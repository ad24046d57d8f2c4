/*
 * The walker: reads the headers of one message and nothing else, so that sizes, counts and depth
 * are known to be within bounds before msgpack-c, which allocates what a header claims, sees a
 * byte. It allocates nothing, keeps a stack of fixed depth, and never reads beyond the bytes given.
 */
#include "proto/message.h"

#include <limits.h>

enum { MESSAGE_DEPTH_MAX = 8, MESSAGE_METHOD_MAX = 32 };

const struct message_limits message_request_limits = { 16 << 10, 6, 256 };
const struct message_limits message_reply_limits = { 64 << 10, MESSAGE_DEPTH_MAX, 4096 };

enum token_kind {
	TOKEN_BAD,
	TOKEN_NIL,
	TOKEN_BOOL,
	TOKEN_INT,
	TOKEN_TEXT,
	TOKEN_BIN,
	TOKEN_ARRAY,
	TOKEN_MAP
};

/* One header. `number` is the value of an integer, else the count of bytes, elements or pairs. */
struct token {
	enum token_kind kind;
	uint64_t number;
	bool negative; /* an integer below zero; its value is of no interest here */
};

struct walk {
	const uint8_t *data;
	size_t n;
	const struct message_limits *limits;
	size_t pos;
	uint64_t nodes; /* values seen */
	uint64_t owed;	/* values that the open containers still need */
};

/* The headers 0xc0 to 0xdf: what they open, and how many bytes of size or value follow. */
static const struct {
	uint8_t kind;
	uint8_t extra;
} walk_forms[32] = {
	[0x00] = { TOKEN_NIL, 0 },   [0x02] = { TOKEN_BOOL, 0 }, [0x03] = { TOKEN_BOOL, 0 },
	[0x04] = { TOKEN_BIN, 1 },   [0x05] = { TOKEN_BIN, 2 },	 [0x06] = { TOKEN_BIN, 4 },
	[0x0c] = { TOKEN_INT, 1 },   [0x0d] = { TOKEN_INT, 2 },	 [0x0e] = { TOKEN_INT, 4 },
	[0x0f] = { TOKEN_INT, 8 },   [0x10] = { TOKEN_INT, 1 },	 [0x11] = { TOKEN_INT, 2 },
	[0x12] = { TOKEN_INT, 4 },   [0x13] = { TOKEN_INT, 8 },	 [0x19] = { TOKEN_TEXT, 1 },
	[0x1a] = { TOKEN_TEXT, 2 },  [0x1b] = { TOKEN_TEXT, 4 }, [0x1c] = { TOKEN_ARRAY, 2 },
	[0x1d] = { TOKEN_ARRAY, 4 }, [0x1e] = { TOKEN_MAP, 2 },	 [0x1f] = { TOKEN_MAP, 4 },
};

/* Checks that `bytes` more are allowed and there. */
static enum message_walk walk_need(const struct walk *w, uint64_t bytes)
{
	if (bytes > w->limits->bytes - w->pos)
		return MESSAGE_TOO_LARGE;
	return bytes > w->n - w->pos ? MESSAGE_INCOMPLETE : MESSAGE_COMPLETE;
}

/* The headers that hold their number in the byte itself. */
static bool walk_short_form(uint8_t byte, struct token *ret)
{
	if (byte < 0x80)
		*ret = (struct token){ TOKEN_INT, byte, false };
	else if (byte < 0x90)
		*ret = (struct token){ TOKEN_MAP, byte & 0x0f, false };
	else if (byte < 0xa0)
		*ret = (struct token){ TOKEN_ARRAY, byte & 0x0f, false };
	else if (byte < 0xc0)
		*ret = (struct token){ TOKEN_TEXT, byte & 0x1f, false };
	else if (byte >= 0xe0)
		*ret = (struct token){ TOKEN_INT, 0, true };
	else
		return false;
	return true;
}

static enum message_walk walk_long_form(struct walk *w, uint8_t byte, struct token *ret)
{
	enum token_kind kind = (enum token_kind)walk_forms[byte - 0xc0].kind;
	unsigned extra = walk_forms[byte - 0xc0].extra;
	enum message_walk r = walk_need(w, extra);
	uint64_t number = 0;

	if (kind == TOKEN_BAD)
		return MESSAGE_MALFORMED;
	if (r != MESSAGE_COMPLETE)
		return r;
	/* 0xd0 to 0xd3 are the signed integers */
	bool negative = byte >= 0xd0 && byte <= 0xd3 && w->data[w->pos] >= 0x80;
	for (unsigned i = 0; i < extra; i++)
		number = number << 8 | w->data[w->pos++];
	*ret = (struct token){ kind, number, negative };
	return MESSAGE_COMPLETE;
}

/* Reads one header, skips the bytes of text and bin, and holds what it claims against the limits.
 */
static enum message_walk walk_token(struct walk *w, struct token *ret)
{
	enum message_walk r = walk_need(w, 1);
	uint64_t bytes = 0;

	if (r != MESSAGE_COMPLETE)
		return r;
	uint8_t byte = w->data[w->pos++];
	if (!walk_short_form(byte, ret)) {
		r = walk_long_form(w, byte, ret);
		if (r != MESSAGE_COMPLETE)
			return r;
	}
	w->nodes++;
	w->owed -= w->owed > 0;
	if (ret->kind == TOKEN_ARRAY || ret->kind == TOKEN_MAP)
		w->owed += ret->kind == TOKEN_MAP ? 2 * ret->number : ret->number;
	else if (ret->kind == TOKEN_TEXT || ret->kind == TOKEN_BIN)
		bytes = ret->number;
	/* each value that is owed takes a byte at least, so a claim is refused when it is made */
	if (w->nodes + w->owed > w->limits->nodes || bytes + w->owed > w->limits->bytes - w->pos)
		return MESSAGE_TOO_LARGE;
	r = walk_need(w, bytes);
	if (r == MESSAGE_COMPLETE)
		w->pos += (size_t)bytes;
	return r;
}

static bool walk_is_container(const struct token *t)
{
	return t->kind == TOKEN_ARRAY || t->kind == TOKEN_MAP;
}

/* Walks what is inside of the token just read, if anything; as a container it stands at `depth`. */
static enum message_walk walk_inside(struct walk *w, struct token t, unsigned depth)
{
	struct {
		uint64_t left; /* values still to come; in a map, an even number: a key is next */
		bool map;
	} levels[MESSAGE_DEPTH_MAX], *top;
	unsigned n_levels = 0;

	for (;;) {
		if (walk_is_container(&t)) {
			if (depth + n_levels > MIN_OF(w->limits->depth, MESSAGE_DEPTH_MAX))
				return MESSAGE_TOO_LARGE;
			top = &levels[n_levels++];
			top->map = t.kind == TOKEN_MAP;
			top->left = t.number << top->map;
		}
		while (n_levels > 0 && levels[n_levels - 1].left == 0)
			n_levels--;
		if (n_levels == 0)
			return MESSAGE_COMPLETE;
		top = &levels[n_levels - 1];
		bool is_key = top->map && top->left % 2 == 0;
		top->left--;
		enum message_walk r = walk_token(w, &t);
		if (r != MESSAGE_COMPLETE)
			return r;
		if (is_key && t.kind != TOKEN_TEXT)
			return MESSAGE_MALFORMED;
	}
}

/* The parts of a message after its type. */
enum slot { SLOT_ID, SLOT_METHOD, SLOT_PARAMS, SLOT_OUTCOME };

static const struct {
	unsigned n_slots;
	enum slot slots[3];
} walk_shapes[] = {
	[MESSAGE_REQUEST] = { 3, { SLOT_ID, SLOT_METHOD, SLOT_PARAMS } },
	[MESSAGE_REPLY] = { 3, { SLOT_ID, SLOT_OUTCOME, SLOT_OUTCOME } },
	[MESSAGE_NOTIFICATION] = { 2, { SLOT_METHOD, SLOT_PARAMS } },
};

static bool walk_fits(enum slot slot, const struct token *t)
{
	switch (slot) {
	case SLOT_ID:
		return t->kind == TOKEN_INT && !t->negative && t->number <= UINT32_MAX;
	case SLOT_METHOD:
		return t->kind == TOKEN_TEXT && t->number <= MESSAGE_METHOD_MAX;
	case SLOT_PARAMS:
		return t->kind == TOKEN_ARRAY && t->number <= 1;
	case SLOT_OUTCOME:
		return t->kind == TOKEN_NIL || t->kind == TOKEN_MAP;
	}
	return false;
}

static enum message_walk walk_slot(struct walk *w, enum slot slot)
{
	struct token t;
	unsigned depth = 2;
	enum message_walk r = walk_token(w, &t);

	if (r != MESSAGE_COMPLETE)
		return r;
	if (!walk_fits(slot, &t))
		return MESSAGE_MALFORMED;
	if (slot == SLOT_PARAMS && t.number == 1) {
		r = walk_token(w, &t);
		if (r != MESSAGE_COMPLETE)
			return r;
		if (t.kind != TOKEN_MAP && t.kind != TOKEN_NIL)
			return MESSAGE_MALFORMED;
		depth++;
	}
	return walk_inside(w, t, depth);
}

/* The outer array and the type, which decides the shape. */
static enum message_walk walk_opening(struct walk *w, size_t *ret_shape)
{
	struct token array, type;
	enum message_walk r = walk_token(w, &array);

	if (r != MESSAGE_COMPLETE)
		return r;
	if (array.kind != TOKEN_ARRAY || array.number < 3 || array.number > 4)
		return MESSAGE_MALFORMED;
	r = walk_token(w, &type);
	if (r != MESSAGE_COMPLETE)
		return r;
	if (type.kind != TOKEN_INT || type.negative || type.number >= ARRAY_SIZE(walk_shapes) ||
	    array.number != walk_shapes[type.number].n_slots + 1)
		return MESSAGE_MALFORMED;
	*ret_shape = (size_t)type.number;
	return MESSAGE_COMPLETE;
}

/* The id of what begins like a request, however wrong the rest of it is. */
static int64_t walk_peek_id(struct walk w)
{
	struct token t = { .kind = TOKEN_BAD };

	/* an array that claims too much is too large, and its id can be read all the same */
	(void)walk_token(&w, &t);
	if (t.kind != TOKEN_ARRAY)
		return -1;
	w.owed = 0;
	if (walk_token(&w, &t) != MESSAGE_COMPLETE || t.kind != TOKEN_INT || t.negative ||
	    t.number != MESSAGE_REQUEST)
		return -1;
	if (walk_token(&w, &t) != MESSAGE_COMPLETE || !walk_fits(SLOT_ID, &t))
		return -1;
	return (int64_t)t.number;
}

enum message_walk message_walk(const uint8_t *data, size_t n, const struct message_limits *limits,
			       size_t *ret_len, int64_t *ret_id)
{
	struct walk w = { .data = data, .n = n, .limits = limits };
	size_t shape = 0;

	if (ret_id)
		*ret_id = walk_peek_id(w);
	enum message_walk r = walk_opening(&w, &shape);
	for (unsigned i = 0; r == MESSAGE_COMPLETE && i < walk_shapes[shape].n_slots; i++)
		r = walk_slot(&w, walk_shapes[shape].slots[i]);
	if (r == MESSAGE_COMPLETE)
		*ret_len = w.pos;
	return r;
}

size_t message_values(const uint8_t *data, size_t n)
{
	const struct message_limits limits = { .bytes = n, .nodes = UINT_MAX };
	struct walk w = { .data = data, .n = n, .limits = &limits };
	struct token t;

	while (walk_token(&w, &t) == MESSAGE_COMPLETE)
		;
	return (size_t)w.nodes;
}
