/* Counts bytes and values of what is packed against the limits of a reply. */
#include "daemon/op_rows.h"

#include <string.h>

#include "core/config.h"
#include "daemon/op_map.h"
#include "proto/message.h"

/* For the head of the reply, the headers around the rows, and fields as small as `next`. */
#define OP_ROWS_SPARE_BYTES 512
#define OP_ROWS_SPARE_VALUES 32

/* Of one profile, which has to fit into a page whatever else it has. */
#define OP_MODELS_BYTES 32768
#define OP_MODELS_MAX 2000

static size_t op_rows_left(size_t all, size_t taken)
{
	return all > taken ? all - taken : 0;
}

void op_rows_begin(struct op_rows *rows, const struct op_map *m)
{
	*rows = (struct op_rows){
		.bytes = op_rows_left(message_reply_limits.bytes,
				      m->pairs.len + OP_ROWS_SPARE_BYTES),
		.values = op_rows_left(message_reply_limits.nodes,
				       message_values(m->pairs.data, m->pairs.len) +
					       OP_ROWS_SPARE_VALUES),
	};
}

bool op_rows_add(struct op_rows *rows, struct op_map *row)
{
	size_t before = rows->packed.len, values;
	int r = op_map_end(row, &rows->packed);
	size_t bytes = rows->packed.len - before;

	rows->r = rows->r < 0 ? rows->r : r;
	values = rows->r < 0 ? 0 : message_values(rows->packed.data + before, bytes);
	if (rows->r < 0 || bytes > rows->bytes || values > rows->values) {
		rows->packed.len = before;
		return false;
	}
	rows->bytes -= bytes;
	rows->values -= values;
	rows->n++;
	return true;
}

void op_rows_end(struct op_rows *rows, struct op_map *m, const char *name)
{
	op_map_name(m, name);
	m->r = m->r < 0 ? m->r : rows->r;
	m->r = m->r < 0 ? m->r : pack_array(&m->pairs, rows->n);
	m->r = m->r < 0 ? m->r : buf_append(&m->pairs, rows->packed.data, rows->packed.len);
	buf_deinit(&rows->packed);
}

size_t op_models_shown(const struct profile *p)
{
	size_t bytes = 0, n = 0;

	while (n < p->n_models && n < OP_MODELS_MAX) {
		bytes += strlen(p->models[n]) + 5; /* as it is packed, at most */
		if (bytes > OP_MODELS_BYTES)
			break;
		n++;
	}
	return n;
}

void op_models_pack(struct op_map *m, const struct profile *p)
{
	size_t shown = op_models_shown(p);

	op_map_texts(m, "models", p->models, shown);
	if (shown < p->n_models)
		op_map_int(m, "models_more", (int64_t)(p->n_models - shown));
}
