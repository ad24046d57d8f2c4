/* One table says which member is which field, for writing and for reading. */
#include "core/audit_json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "core/audit_checkpoint.h"

#define AUDIT_JSON_FORMAT 1
#define AUDIT_JSON_BEGIN "keybroker_audit"
#define AUDIT_JSON_END "keybroker_audit_end"
#define AUDIT_EXPORT_KIND "keybroker audit export"

enum audit_json_type { AUDIT_JSON_INT, AUDIT_JSON_TEXT, AUDIT_JSON_HASH };

struct audit_json_field {
	const char *name;
	enum audit_json_type type;
	size_t at, size;
};

#define AUDIT_JSON_FIELD(row, member)                                                  \
	{                                                                              \
		.name = #member, .at = offsetof(struct row, member),                 \
		.size = sizeof(((struct row *)0)->member),                           \
		.type = _Generic(((struct row *)0)->member,                          \
				 char *: AUDIT_JSON_TEXT,                            \
				 uint8_t *: AUDIT_JSON_HASH,                         \
				 int64_t: AUDIT_JSON_INT,                            \
				 uint64_t: AUDIT_JSON_INT) \
	}

static const struct audit_json_field audit_json_row_fields[] = {
	AUDIT_JSON_FIELD(audit_row, sequence),	 AUDIT_JSON_FIELD(audit_row, hash),
	AUDIT_JSON_FIELD(audit_row, wall_ms),	 AUDIT_JSON_FIELD(audit_row, boot_ms),
	AUDIT_JSON_FIELD(audit_row, term),	 AUDIT_JSON_FIELD(audit_row, instance),
	AUDIT_JSON_FIELD(audit_row, event),	 AUDIT_JSON_FIELD(audit_row, outcome),
	AUDIT_JSON_FIELD(audit_row, rule),	 AUDIT_JSON_FIELD(audit_row, profile),
	AUDIT_JSON_FIELD(audit_row, lease),	 AUDIT_JSON_FIELD(audit_row, uid),
	AUDIT_JSON_FIELD(audit_row, gid),	 AUDIT_JSON_FIELD(audit_row, pid),
	AUDIT_JSON_FIELD(audit_row, start_time), AUDIT_JSON_FIELD(audit_row, unit),
	AUDIT_JSON_FIELD(audit_row, exe),	 AUDIT_JSON_FIELD(audit_row, key_tag),
	AUDIT_JSON_FIELD(audit_row, detail),
};

static const struct audit_json_field audit_json_begin_fields[] = {
	AUDIT_JSON_FIELD(audit_export, install),
	AUDIT_JSON_FIELD(audit_export, after),
	AUDIT_JSON_FIELD(audit_export, previous),
	AUDIT_JSON_FIELD(audit_export, exported_at_ms),
};

static const struct audit_json_field audit_json_end_fields[] = {
	AUDIT_JSON_FIELD(audit_export, to),
	AUDIT_JSON_FIELD(audit_export, rows),
	AUDIT_JSON_FIELD(audit_export, hash),
	AUDIT_JSON_FIELD(audit_export, mac),
};

static void audit_export_mac(const struct keyring *k, const struct audit_export *e,
			     uint8_t ret[HASH_SIZE])
{
	char previous[HASH_HEX_SIZE], hash[HASH_HEX_SIZE], text[512];
	int n;

	crypt_hex(e->previous, HASH_SIZE, previous);
	crypt_hex(e->hash, HASH_SIZE, hash);
	/* numbers and digits behind the one text: no two exports give the same line */
	n = snprintf(text, sizeof(text), "%d %llu %s %lld %llu %llu %s %s", AUDIT_JSON_FORMAT,
		     (unsigned long long)e->after, previous, (long long)e->exported_at_ms,
		     (unsigned long long)e->to, (unsigned long long)e->rows, hash, e->install);
	audit_sign(k, AUDIT_EXPORT_KIND, text, (size_t)n, ret);
}

void audit_export_sign(const struct keyring *k, struct audit_export *e)
{
	audit_export_mac(k, e, e->mac);
}

bool audit_export_is_genuine(const struct keyring *k, const struct audit_export *e)
{
	uint8_t mac[HASH_SIZE];

	audit_export_mac(k, e, mac);
	return memcmp(mac, e->mac, HASH_SIZE) == 0;
}

/* --- writing --- */

static int audit_json_set_hex(struct json *line, const char *name, const void *bytes, size_t n)
{
	char hex[2 * sizeof(struct audit_row)];

	crypt_hex(bytes, n, hex);
	return json_set_text(line, name, hex);
}

static int audit_json_set_text(struct json *line, const char *name, const char *text)
{
	char other[64];
	int r = json_set_exact(line, name, text);

	if (r != -EILSEQ)
		return r;
	(void)snprintf(other, sizeof(other), "%s_hex", name);
	return audit_json_set_hex(line, other, text, strlen(text));
}

static int audit_json_set(struct json *line, const struct audit_json_field *f, const void *object)
{
	const char *at = (const char *)object + f->at;
	int64_t v;

	switch (f->type) {
	case AUDIT_JSON_INT:
		memcpy(&v, at, sizeof(v));
		return json_set_int(line, f->name, v);
	case AUDIT_JSON_TEXT:
		return audit_json_set_text(line, f->name, at);
	case AUDIT_JSON_HASH:
		return audit_json_set_hex(line, f->name, at, HASH_SIZE);
	}
	return -EINVAL;
}

/* `kind`: the field that tells this line from a row; NULL for a row. */
static int audit_json_line(const char *kind, const struct audit_json_field *fields, size_t n,
			   const void *object, struct buf *b)
{
	_cleanup_(json_freep) struct json *line = json_new_object();
	char *text;
	int r = line ? 0 : -ENOMEM;

	if (r == 0 && kind)
		r = json_set_int(line, kind, AUDIT_JSON_FORMAT);
	for (size_t i = 0; i < n && r == 0; i++)
		r = audit_json_set(line, &fields[i], object);
	text = r == 0 ? json_dump(line) : NULL;
	if (r == 0)
		r = text ? buf_append(b, text, strlen(text)) : -ENOMEM;
	if (r == 0)
		r = buf_append(b, "\n", 1);
	json_text_free(text);
	return r;
}

int audit_json_begin(const struct audit_export *e, struct buf *b)
{
	return audit_json_line(AUDIT_JSON_BEGIN, audit_json_begin_fields,
			       ARRAY_SIZE(audit_json_begin_fields), e, b);
}

int audit_json_row(const struct audit_row *row, struct buf *b)
{
	return audit_json_line(NULL, audit_json_row_fields, ARRAY_SIZE(audit_json_row_fields), row,
			       b);
}

int audit_json_end(const struct audit_export *e, struct buf *b)
{
	return audit_json_line(AUDIT_JSON_END, audit_json_end_fields,
			       ARRAY_SIZE(audit_json_end_fields), e, b);
}

/* --- reading --- */

static bool audit_json_get_text(const struct json *line, const struct audit_json_field *f, char *to)
{
	const char *text = json_get_text(line, f->name);
	char other[64];
	size_t n;

	if (text) {
		(void)snprintf(to, f->size, "%s", text);
		return strlen(text) < f->size;
	}
	(void)snprintf(other, sizeof(other), "%s_hex", f->name);
	text = json_get_text(line, other);
	n = text ? strlen(text) / 2 : 0;
	if (!text || n >= f->size || crypt_unhex(text, (uint8_t *)to, n) < 0)
		return false;
	to[n] = '\0';
	return strlen(to) == n;
}

static bool audit_json_get(const struct json *line, const struct audit_json_field *f, void *object)
{
	char *at = (char *)object + f->at;
	const char *text;
	int64_t v;

	switch (f->type) {
	case AUDIT_JSON_INT:
		if (!json_get_int(line, f->name, &v))
			return false;
		memcpy(at, &v, sizeof(v));
		return true;
	case AUDIT_JSON_TEXT:
		return audit_json_get_text(line, f, at);
	case AUDIT_JSON_HASH:
		text = json_get_text(line, f->name);
		return text && crypt_unhex(text, (uint8_t *)at, HASH_SIZE) == 0;
	}
	return false;
}

static int audit_json_read(const struct json *line, const char *kind,
			   const struct audit_json_field *fields, size_t n, void *object)
{
	int64_t format;

	/* a field that no export writes is something that the chain says nothing of */
	if (json_len(line) != n + (kind != NULL))
		return AUDIT_JSON_E_BAD;
	if (kind && (!json_get_int(line, kind, &format) || format != AUDIT_JSON_FORMAT))
		return AUDIT_JSON_E_BAD;
	for (size_t i = 0; i < n; i++)
		if (!audit_json_get(line, &fields[i], object))
			return AUDIT_JSON_E_BAD;
	return 0;
}

int audit_json_parse(const char *line, size_t n, struct audit_row *row, struct audit_export *e,
		     enum audit_line *ret, const char **ret_why)
{
	_cleanup_(json_freep) struct json *doc = json_parse(line, n);

	if (!json_is_object(doc)) {
		*ret_why = "is not a JSON object";
		return AUDIT_JSON_E_BAD;
	}
	if (json_get(doc, AUDIT_JSON_BEGIN)) {
		*ret = AUDIT_LINE_BEGIN;
		*ret_why = "does not begin an export as this version writes them";
		return audit_json_read(doc, AUDIT_JSON_BEGIN, audit_json_begin_fields,
				       ARRAY_SIZE(audit_json_begin_fields), e);
	}
	if (json_get(doc, AUDIT_JSON_END)) {
		*ret = AUDIT_LINE_END;
		*ret_why = "does not end an export as this version writes them";
		return audit_json_read(doc, AUDIT_JSON_END, audit_json_end_fields,
				       ARRAY_SIZE(audit_json_end_fields), e);
	}
	*ret = AUDIT_LINE_ROW;
	*ret_why = "does not have exactly the columns of a row";
	return audit_json_read(doc, NULL, audit_json_row_fields, ARRAY_SIZE(audit_json_row_fields),
			       row);
}
