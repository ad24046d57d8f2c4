/* Packs maps of a size that is not known in advance. */
#include "daemon/op_map.h"

#include "proto/message.h"

void op_map_name(struct op_map *m, const char *name)
{
	m->n++;
	m->r = m->r < 0 ? m->r : pack_text(&m->pairs, name);
}

void op_map_text(struct op_map *m, const char *name, const char *value)
{
	if (!value || !value[0])
		return;
	op_map_name(m, name);
	m->r = m->r < 0 ? m->r : pack_text(&m->pairs, value);
}

void op_map_int(struct op_map *m, const char *name, int64_t value)
{
	op_map_name(m, name);
	m->r = m->r < 0 ? m->r : pack_int(&m->pairs, value);
}

void op_map_time(struct op_map *m, const char *name, int64_t value)
{
	if (value)
		op_map_int(m, name, value);
}

void op_map_bool(struct op_map *m, const char *name, bool value)
{
	op_map_name(m, name);
	m->r = m->r < 0 ? m->r : pack_bool(&m->pairs, value);
}

int op_map_end(struct op_map *m, struct buf *b)
{
	int r = m->r;

	r = r < 0 ? r : pack_map(b, m->n);
	r = r < 0 ? r : buf_append(b, m->pairs.data, m->pairs.len);
	buf_deinit(&m->pairs);
	m->n = 0;
	m->r = 0;
	return r;
}

void op_map_map(struct op_map *m, const char *name, struct op_map *inner)
{
	int r;

	op_map_name(m, name);
	r = op_map_end(inner, &m->pairs);
	m->r = m->r < 0 ? m->r : r;
}

void op_map_texts(struct op_map *m, const char *name, char *const *texts, size_t n)
{
	op_map_name(m, name);
	m->r = m->r < 0 ? m->r : pack_array(&m->pairs, n);
	for (size_t i = 0; i < n && m->r == 0; i++)
		m->r = pack_text(&m->pairs, texts[i]);
}
