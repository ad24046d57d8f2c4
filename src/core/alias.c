/* Alias templates. Values come from peers' surroundings (user and unit names), so they are cleaned.
 */
#include "core/alias.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "base/utf8.h"

enum alias_field { ALIAS_PID, ALIAS_UID, ALIAS_USER, ALIAS_UNIT, ALIAS_HOST, ALIAS_PROFILE };

static const struct {
	const char *name;
	bool varies; /* from caller to caller */
} alias_fields[] = {
	[ALIAS_PID] = { "%{pid}", true },    [ALIAS_UID] = { "%{uid}", true },
	[ALIAS_USER] = { "%{user}", true },  [ALIAS_UNIT] = { "%{unit}", true },
	[ALIAS_HOST] = { "%{host}", false }, [ALIAS_PROFILE] = { "%{profile}", false },
};

/* The field that `at` begins with, or -1. */
static int alias_field_at(const char *at)
{
	for (size_t i = 0; i < ARRAY_SIZE(alias_fields); i++)
		if (strncmp(at, alias_fields[i].name, strlen(alias_fields[i].name)) == 0)
			return (int)i;
	return -1;
}

const char *alias_template_error(const char *template)
{
	for (const char *at = strstr(template, "%{"); at; at = strstr(at + 2, "%{"))
		if (alias_field_at(at) < 0)
			return at;
	return NULL;
}

bool alias_template_varies(const char *template)
{
	for (const char *at = strstr(template, "%{"); at; at = strstr(at + 2, "%{")) {
		int field = alias_field_at(at);

		if (field >= 0 && alias_fields[field].varies)
			return true;
	}
	return false;
}

static const char *alias_value(int field, const struct alias_values *v, char number[24])
{
	const char *text = NULL;

	switch ((enum alias_field)field) {
	case ALIAS_PID:
		(void)snprintf(number, 24, "%lld", (long long)v->pid);
		return number;
	case ALIAS_UID:
		(void)snprintf(number, 24, "%lld", (long long)v->uid);
		return number;
	case ALIAS_USER:
		text = v->user;
		break;
	case ALIAS_UNIT:
		text = v->unit;
		break;
	case ALIAS_HOST:
		text = v->host;
		break;
	case ALIAS_PROFILE:
		text = v->profile;
		break;
	}
	return text ? text : "";
}

static size_t alias_put(char *ret, size_t size, size_t at, const char *text, size_t n)
{
	for (size_t i = 0; i < n && at + 1 < size; i++, at++)
		ret[at] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '_' : text[i];
	return at;
}

void alias_expand(const char *template, const struct alias_values *v, char *ret, size_t size)
{
	size_t at = 0;

	while (*template) {
		int field = alias_field_at(template);
		char number[24];

		if (field < 0) {
			at = alias_put(ret, size, at, template ++, 1);
			continue;
		}
		const char *value = alias_value(field, v, number);
		at = alias_put(ret, size, at, value, strlen(value));
		template += strlen(alias_fields[field].name);
	}
	ret[at] = '\0';
	utf8_clean(ret);
}

void alias_append(const char *alias, char separator, const char *suffix, char *ret, size_t size)
{
	size_t tail = strlen(suffix) + 2; /* separator and NUL */
	size_t keep = strlen(alias);

	if (tail > size)
		tail = size;
	if (keep + tail > size)
		keep = text_cut(alias, size - tail);
	(void)snprintf(ret, size, "%.*s%c%s", (int)keep, alias, separator, suffix);
}
