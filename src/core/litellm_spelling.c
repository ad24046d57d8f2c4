/*
 * Characters as programs write them into each other's texts: behind backslashes of any depth, as
 * \uXXXX or \xXX, as HTML's entities, as %XX, and all of that within each other. Read one at a
 * time from where they stand: what may hold a credential is not copied.
 */
#include "core/litellm_parts.h"

#include <stdlib.h>
#include <string.h>

#define SPELLING_ENTITY_MAX 8	   /* "#x000026" */
#define SPELLING_BACKSLASHES_MAX 8 /* in a row, as \u005c, %5C or &#92; */

/* `n` hex digits at `p`; 0 if they are not there, or are zeros: no character of any text. */
static uint32_t spelling_hex(const char *p, size_t n)
{
	char digits[9] = "";

	memcpy(digits, p, strnlen(p, n));
	if (strspn(digits, "0123456789abcdefABCDEF") != n)
		return 0;
	return (uint32_t)strtoul(digits, NULL, 16);
}

/* JSON, Python and shells: a backslash stands before what it is to keep, and is itself kept so.
 * `escaped`: one that was spelled otherwise stands before `p`. */
static uint32_t spelling_unescape(const char *p, bool escaped, size_t *ret_n)
{
	size_t n = strspn(p, "\\");
	size_t digits = n == 0 && !escaped ? 0 : p[n] == 'u' ? 4 : p[n] == 'x' ? 2 : 0;
	uint32_t c = digits ? spelling_hex(p + n + 1, digits) : 0;

	*ret_n = n + (c ? digits + 1 : p[n] != '\0');
	return c ? c : (unsigned char)p[n];
}

/* What follows a '%': two hex digits. Its length, 0 if it is something else. */
static size_t spelling_percent(const char *p, uint32_t *ret)
{
	char digits[3] = "";
	size_t n = 0, one;

	for (size_t i = 0; i < 2; i++, n += one)
		digits[i] = (char)MIN_OF(spelling_unescape(p + n, false, &one), 0x7fU);
	*ret = spelling_hex(digits, 2);
	return *ret ? n : 0;
}

/* What follows a '&'. */
static size_t spelling_entity(const char *p, uint32_t *ret)
{
	static const struct {
		const char *name;
		char c;
	} names[] = {
		{ "amp", '&' }, { "lt", '<' }, { "gt", '>' }, { "quot", '"' }, { "apos", '\'' }
	};
	char name[SPELLING_ENTITY_MAX + 1] = "";
	size_t n = 0, one;
	uint32_t c = 0;
	bool hex;

	for (size_t i = 0; i <= SPELLING_ENTITY_MAX && c != ';'; i++, n += one) {
		c = spelling_unescape(p + n, false, &one);
		if (i < SPELLING_ENTITY_MAX && c < 0x80 && c != ';')
			name[i] = (char)c;
	}
	if (c != ';')
		return 0;
	hex = name[0] == '#' && (name[1] | 0x20) == 'x';
	*ret = name[0] == '#' ? (uint32_t)strtoul(name + 1 + hex, NULL, hex ? 16 : 10) : 0;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(name, names[i].name) == 0)
			*ret = (unsigned char)names[i].c;
	return *ret ? n : 0;
}

static uint32_t spelling_next(const char *p, bool escaped, size_t *ret_n)
{
	uint32_t c = spelling_unescape(p, escaped, ret_n), next = 0;
	size_t n;

	while (c == '&' || c == '%') {
		n = c == '&' ? spelling_entity(p + *ret_n, &next)
			     : spelling_percent(p + *ret_n, &next);
		if (n == 0)
			break;
		*ret_n += n;
		c = next;
	}
	return c;
}

uint32_t litellm_spelled(const char *p, size_t *ret_n)
{
	uint32_t c;
	size_t n;

	*ret_n = *p != '\0';
	if (*p != '\\' && *p != '&' && *p != '%')
		return (unsigned char)*p;
	c = spelling_next(p, false, ret_n);
	/* bounded: from each of many in a row it would go to the last one */
	for (int i = 0; c == '\\' && i < SPELLING_BACKSLASHES_MAX; i++, *ret_n += n)
		c = spelling_next(p + *ret_n, true, &n);
	return c;
}

size_t litellm_spells(const char *text, const char *word, size_t *ret_told)
{
	size_t n = 0, in_text, in_word;
	uint32_t want;

	for (*ret_told = 0; (want = litellm_spelled(word, &in_word)); ++*ret_told) {
		/* the last character of `word` may make an escape with what is behind it */
		if (litellm_spelled(text + n, &in_text) != want &&
		    spelling_unescape(text + n, false, &in_text) != want)
			break;
		n += in_text;
		word += in_word;
	}
	return n;
}
