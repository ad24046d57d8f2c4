/* Values as JSON, written straight to the stream: a key in them is copied nowhere else. */
#include "cli/json_out.h"

#include "cli/text.h"
#include "proto/message.h"

/* Depth is bounded by the walker. */
static void json_out_members(FILE *f, const struct value *v)
{
	bool map = value_type(v) == VALUE_MAP;

	(void)fputc(map ? '{' : '[', f); /* errors show when the stream is flushed */
	for (size_t i = 0; i < value_len(v); i++) {
		if (i > 0)
			(void)fputc(',', f);
		if (map) {
			const char *key = value_text(value_key_at(v, i));

			text_print_json(f, key ? key : "");
			(void)fputc(':', f);
		}
		json_out(f, map ? value_value_at(v, i) : value_at(v, i));
	}
	(void)fputc(map ? '}' : ']', f);
}

void json_out(FILE *f, const struct value *v)
{
	int64_t n;

	switch (value_type(v)) {
	case VALUE_BOOL:
		(void)fputs(value_bool(v, false) ? "true" : "false", f);
		return;
	case VALUE_INT:
		if (!value_int(v, &n))
			break;
		(void)fprintf(f, "%lld", (long long)n);
		return;
	case VALUE_TEXT:
		if (!value_text(v))
			break;
		text_print_json(f, value_text(v));
		return;
	case VALUE_ARRAY:
	case VALUE_MAP:
		json_out_members(f, v);
		return;
	case VALUE_NIL:
	case VALUE_BIN:
		break;
	}
	(void)fputs("null", f);
}

void json_out_line(const struct value *v)
{
	json_out(stdout, v);
	putchar('\n');
}
