/* Values as the file would write them: what is shown here, option_set() takes back. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "core/config.h"
#include "core/option.h"

#define OPTION_SHOW_MAX ((size_t)1 << 20)

/* Quotes with the escapes that io/config_text lets through. */
static int option_show_quoted(struct buf *b, const char *text)
{
	int r = buf_append(b, "\"", 1);

	for (; r == 0 && *text; text++)
		if (*text == '\n' || *text == '\t')
			r = buf_append(b, *text == '\n' ? "\\n" : "\\t", 2);
		else if (*text == '"' || *text == '\\')
			r = buf_printf(b, "\\%c", *text);
		else
			r = buf_append(b, text, 1);
	return r ? r : buf_append(b, "\"", 1);
}

static int option_show_list(struct buf *b, char *const *items, size_t n)
{
	int r = buf_append(b, "{ ", 2);

	for (size_t i = 0; r == 0 && i < n; i++) {
		if (i)
			r = buf_append(b, ", ", 2);
		if (r == 0)
			r = option_show_quoted(b, items[i]);
	}
	return r ? r : buf_append(b, " }", 2);
}

/* In the largest unit that divides it. */
static int option_show_span(struct buf *b, int64_t ms)
{
	static const struct {
		int64_t ms;
		const char *unit;
	} units[] = { { INT64_C(86400000), "d" }, { 3600000, "h" }, { 60000, "m" }, { 1000, "s" } };

	for (size_t i = 0; i < ARRAY_SIZE(units); i++)
		if (ms % units[i].ms == 0)
			return buf_printf(b, "\"%lld%s\"", (long long)(ms / units[i].ms),
					  units[i].unit);
	return buf_printf(b, "\"%lldms\"", (long long)ms); /* only --timing makes such */
}

/* Likewise. */
static int option_show_size(struct buf *b, int64_t bytes)
{
	static const char units[] = "KMGT";
	int unit = -1;

	while (bytes > 0 && bytes % 1024 == 0 && units[unit + 1]) {
		bytes /= 1024;
		unit++;
	}
	return unit < 0 ? buf_printf(b, "%lld", (long long)bytes)
			: buf_printf(b, "\"%lld%c\"", (long long)bytes, units[unit]);
}

/* As short as reads back the same; %f, since the parser takes no exponent. */
static int option_show_number(struct buf *b, double value)
{
	char text[64];

	for (int digits = 1; digits <= 20; digits++) {
		(void)snprintf(text, sizeof(text), "%.*f", digits, value);
		if (strtod(text, NULL) == value)
			break;
	}
	return buf_printf(b, "%s", text);
}

static int option_show_enum(struct buf *b, const struct option *o, int value)
{
	for (const struct option_name *name = o->names; name->name; name++)
		if (name->value == value)
			return buf_printf(b, "%s", name->name);
	return 0;
}

/* Nothing for a value that is absent. */
static int option_show_value(struct buf *b, const struct option *o, const void *at,
			     const void *more)
{
	switch (o->type) {
	case OPTION_TEXT:
	case OPTION_PATH:
	case OPTION_ALIAS:
	case OPTION_URL:
	case OPTION_UPSTREAM_URL:
	case OPTION_DURATION:
		return *(char *const *)at ? option_show_quoted(b, *(char *const *)at) : 0;
	case OPTION_LIST:
		return *(const size_t *)more ? option_show_list(b, *(char *const *const *)at,
								*(const size_t *)more)
					     : 0;
	case OPTION_BOOL:
		return buf_printf(b, "%s", *(const bool *)at ? "yes" : "no");
	case OPTION_COUNT:
		return *(const int64_t *)at < 0
			       ? 0
			       : buf_printf(b, "%lld", (long long)*(const int64_t *)at);
	case OPTION_SIZE:
		return *(const int64_t *)at < 0 ? 0 : option_show_size(b, *(const int64_t *)at);
	case OPTION_SPAN:
		return *(const int64_t *)at <= 0 ? 0 : option_show_span(b, *(const int64_t *)at);
	case OPTION_NUMBER:
		return *(const double *)at < 0 ? 0 : option_show_number(b, *(const double *)at);
	case OPTION_ID:
		return *(const bool *)more ? buf_printf(b, "%u", *(const uid_t *)at) : 0;
	case OPTION_ENUM:
		return option_show_enum(b, o, *(const int *)at);
	}
	return 0;
}

char *option_show(const struct option *o, const void *base)
{
	struct buf b = BUF_INIT(OPTION_SHOW_MAX);
	const char *value = base;
	char *text = NULL;

	if (option_show_value(&b, o, value + o->at, value + o->more) == 0 && b.len)
		text = xstrdup(buf_text(&b));
	buf_deinit(&b);
	return text;
}
