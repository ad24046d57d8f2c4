/*
 * One parser a type. A parser writes nothing until the text has proved good, so that a bad value
 * leaves the old one. Values appear in messages, URLs excepted: those may carry a password.
 */
#include "core/option_value.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "core/alias.h"
#include "core/config.h"
#include "core/duration.h"
#include "core/url.h"

#define OPTION_COUNT_MAX INT64_C(1000000000000)

int option_value_refuse(char ret_why[OPTION_WHY_MAX], const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(ret_why, OPTION_WHY_MAX, fmt, ap); /* a long value may be cut */
	va_end(ap);
	return OPTION_E_BAD;
}

static void *option_value_at(const struct option *o, void *base)
{
	return (char *)base + o->at;
}

static void *option_value_more(const struct option *o, void *base)
{
	return (char *)base + o->more;
}

/* Takes `value` over. */
static int option_value_set_text(const struct option *o, void *base, char *value)
{
	char **at = option_value_at(o, base);

	free(*at);
	*at = value;
	return 0;
}

static int option_value_parse_text(const struct option *o, const char *text, void *base, char *why)
{
	if (!*text)
		return option_value_refuse(why, "must not be empty");
	return option_value_set_text(o, base, xstrdup(text));
}

static int option_value_parse_path(const struct option *o, const char *text, void *base, char *why)
{
	if (*text != '/')
		return option_value_refuse(
			why, "must be an absolute path"); /* it might be the key itself */
	if (strlen(text) >= PATH_MAX)
		return option_value_refuse(why, "is too long a path");
	return option_value_set_text(o, base, xstrdup(text));
}

static int option_value_parse_alias(const struct option *o, const char *text, void *base, char *why)
{
	const char *bad = alias_template_error(text);

	if (!*text)
		return option_value_refuse(why, "must not be empty");
	if (strlen(text) >= ALIAS_MAX)
		return option_value_refuse(why, "must have less than %d bytes", ALIAS_MAX);
	if (bad)
		return option_value_refuse(
			why,
			"\"%.60s\" is not known: there are %%{pid} %%{uid} %%{user} "
			"%%{unit} %%{host} %%{profile}",
			bad);
	if (strstr(text, "${"))
		return option_value_refuse(
			why,
			"\"${…}\" is not filled in here: write %%{pid} %%{uid} %%{user} %%{unit} "
			"%%{host} %%{profile}; LITELLM_KEY_ALIAS also takes ${pid}");
	return option_value_set_text(o, base, xstrdup(text));
}

static int option_value_parse_url(const struct option *o, const char *text, void *base, char *why)
{
	struct url url;
	const char *bad = url_parse(text, &url);

	if (bad)
		return option_value_refuse(why, "the URL %s", bad);
	return option_value_set_text(o, base, url_trim(text, o->type == OPTION_UPSTREAM_URL));
}

static int option_value_parse_bool(const struct option *o, const char *text, void *base, char *why)
{
	static const char *const words[] = { "no", "yes", "false", "true", "off", "on", "0", "1" };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strcasecmp(text, words[i]) == 0) {
			*(bool *)option_value_at(o, base) = i % 2;
			return 0;
		}
	return option_value_refuse(why, "\"%s\" must be yes or no", text);
}

/* Digits only: no sign, no space, no base prefix. */
static bool option_value_integer(const char *text, int64_t *ret)
{
	char *end;

	errno = 0;
	*ret = strtoll(text, &end, 10);
	return *text && text[strspn(text, "0123456789")] == '\0' && errno == 0;
}

static int option_value_parse_count(const struct option *o, const char *text, void *base, char *why)
{
	int64_t max = o->max ? o->max : OPTION_COUNT_MAX, value;

	if (!option_value_integer(text, &value) || value < o->min || value > max)
		return option_value_refuse(why, "\"%s\" must be a whole number from %lld to %lld",
					   text, (long long)o->min, (long long)max);
	*(int64_t *)option_value_at(o, base) = value;
	return 0;
}

/* Bytes, or a number of a unit that is a power of 1024. */
static int option_value_parse_size(const struct option *o, const char *text, void *base, char *why)
{
	static const char units[] = "KMGT";
	int64_t max = o->max ? o->max : OPTION_COUNT_MAX, value;
	char digits[32];
	size_t n = strspn(text, "0123456789");
	const char *unit = text[n] ? strchr(units, text[n]) : NULL;
	int shift = unit ? 10 * (int)(unit - units + 1) : 0;

	(void)snprintf(digits, sizeof(digits), "%.*s", (int)n, text);
	if (!option_value_integer(digits, &value) || (unit ? text[n + 1] : text[n]) != '\0' ||
	    value > max >> shift || value << shift < o->min)
		return option_value_refuse(why,
					   "\"%s\" must be a size: bytes, or a whole number and K, "
					   "M, G or T, like 512M",
					   text);
	*(int64_t *)option_value_at(o, base) = value << shift;
	return 0;
}

static int option_value_parse_number(const struct option *o, const char *text, void *base,
				     char *why)
{
	char *end;
	double value = strtod(text, &end);

	/* digits and one point: strtod would take "inf", "0x1p4" and a sign too */
	if (!*text || *end || text[strspn(text, "0123456789.")] || value > 1e12)
		return option_value_refuse(why, "\"%s\" must be a number of 0 or more", text);
	*(double *)option_value_at(o, base) = value;
	return 0;
}

static int option_value_parse_duration(const struct option *o, const char *text, void *base,
				       char *why)
{
	int64_t ms;

	if (duration_parse(text, &ms))
		return option_value_refuse(why,
					   "\"%s\" must be a duration: one number of 1 or more and "
					   "s, m, h, d, w or mo, like 30d",
					   text);
	if (o->type == OPTION_SPAN)
		*(int64_t *)option_value_at(o, base) = ms;
	else if (o->more)
		*(int64_t *)option_value_more(o, base) = ms;
	return o->type == OPTION_SPAN ? 0 : option_value_set_text(o, base, xstrdup(text));
}

static int option_value_parse_enum(const struct option *o, const char *text, void *base, char *why)
{
	char all[128] = "";
	size_t n = 0;

	for (const struct option_name *name = o->names; name->name; name++) {
		if (strcmp(text, name->name) == 0) {
			*(int *)option_value_at(o, base) = name->value;
			return 0;
		}
		n += (size_t)snprintf(all + n, sizeof(all) - n, "%s%s", n ? ", " : "", name->name);
	}
	return option_value_refuse(why, "\"%s\" must be one of %s", text, all);
}

/* By number: who reads the file has looked names up. -1 is "nobody" to the kernel. */
static int option_value_parse_id(const struct option *o, const char *text, void *base, char *why)
{
	int64_t value;

	if (!option_value_integer(text, &value) || value >= UINT32_MAX)
		return option_value_refuse(why, "\"%s\" must be an id of 0 or more", text);
	*(uid_t *)option_value_at(o, base) = (uid_t)value;
	*(bool *)option_value_more(o, base) = true;
	return 0;
}

static int option_value_parse_list(const struct option *o, const char *const *texts, size_t n,
				   void *base, char *why)
{
	char **items;

	if (n == 0)
		return option_value_refuse(why, "must not be an empty list");
	for (size_t i = 0; i < n; i++)
		if (!*texts[i])
			return option_value_refuse(why, "item %zu is empty", i + 1);
	items = xcalloc(n, sizeof(*items));
	for (size_t i = 0; i < n; i++)
		items[i] = xstrdup(texts[i]);
	option_value_clear(o, base);
	*(char ***)option_value_at(o, base) = items;
	*(size_t *)option_value_more(o, base) = n;
	return 0;
}

typedef int (*option_value_parser)(const struct option *o, const char *text, void *base, char *why);

static const option_value_parser option_value_parsers[] = {
	[OPTION_TEXT] = option_value_parse_text,
	[OPTION_PATH] = option_value_parse_path,
	[OPTION_ALIAS] = option_value_parse_alias,
	[OPTION_URL] = option_value_parse_url,
	[OPTION_UPSTREAM_URL] = option_value_parse_url,
	[OPTION_BOOL] = option_value_parse_bool,
	[OPTION_COUNT] = option_value_parse_count,
	[OPTION_SIZE] = option_value_parse_size,
	[OPTION_NUMBER] = option_value_parse_number,
	[OPTION_SPAN] = option_value_parse_duration,
	[OPTION_DURATION] = option_value_parse_duration,
	[OPTION_ENUM] = option_value_parse_enum,
	[OPTION_ID] = option_value_parse_id,
};

int option_value_parse(const struct option *o, const char *const *texts, size_t n, void *base,
		       char ret_why[OPTION_WHY_MAX])
{
	if (o->type == OPTION_LIST)
		return option_value_parse_list(o, texts, n, base, ret_why);
	return option_value_parsers[o->type](o, texts[0], base, ret_why);
}

static void option_value_clear_list(const struct option *o, void *base)
{
	char ***items = option_value_at(o, base);
	size_t *n = option_value_more(o, base);

	for (size_t i = 0; i < *n; i++)
		free((*items)[i]);
	free(*items);
	*items = NULL;
	*n = 0;
}

void option_value_clear(const struct option *o, void *base)
{
	switch (o->type) {
	case OPTION_TEXT:
	case OPTION_PATH:
	case OPTION_ALIAS:
	case OPTION_URL:
	case OPTION_UPSTREAM_URL:
		(void)option_value_set_text(o, base, NULL);
		break;
	case OPTION_DURATION:
		(void)option_value_set_text(o, base, NULL);
		if (o->more)
			*(int64_t *)option_value_more(o, base) = 0;
		break;
	case OPTION_LIST:
		option_value_clear_list(o, base);
		break;
	case OPTION_COUNT:
	case OPTION_SIZE:
		*(int64_t *)option_value_at(o, base) = -1;
		break;
	case OPTION_SPAN:
		*(int64_t *)option_value_at(o, base) = o->min;
		break;
	case OPTION_NUMBER:
		*(double *)option_value_at(o, base) = -1;
		break;
	case OPTION_ID:
		*(bool *)option_value_more(o, base) = false;
		break;
	case OPTION_BOOL:
	case OPTION_ENUM:
		break; /* always have a value */
	}
}
