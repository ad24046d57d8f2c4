/* Text for people and for other programs. Names come from other processes and are never trusted. */
#include "cli/text.h"

#include <ctype.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

char *text_clean(const char *s)
{
	char *clean = xstrdup(s ? s : "");

	for (char *p = clean; *p; p++) {
		uint8_t byte = (uint8_t)*p;

		/* U+0080 to U+009F are control characters too: C2 80 to C2 9F */
		if (byte < 0x20 || byte == 0x7f)
			*p = '?';
		else if (byte == 0xc2 && (uint8_t)p[1] >= 0x80 && (uint8_t)p[1] < 0xa0)
			p[0] = p[1] = '?';
	}
	return clean;
}

static bool text_is_continuation(char c)
{
	return ((uint8_t)c & 0xc0) == 0x80;
}

size_t text_width(const char *s)
{
	size_t columns = 0;

	for (; *s; s++)
		columns += !text_is_continuation(*s);
	return columns;
}

size_t text_prefix(const char *s, size_t columns)
{
	size_t i = 0;

	for (; s[i]; i++)
		if (!text_is_continuation(s[i]) && columns-- == 0)
			break;
	return i;
}

void text_print_json(FILE *f, const char *s)
{
	(void)fputc('"', f); /* the stream keeps its error until it is flushed */
	for (; *s; s++) {
		uint8_t byte = (uint8_t)*s;

		if (byte == '"' || byte == '\\')
			(void)fprintf(f, "\\%c", byte);
		else if (byte < 0x20 || byte == 0x7f)
			(void)fprintf(f, "\\u%04x", byte);
		else
			(void)fputc(byte, f);
	}
	(void)fputc('"', f);
}

static bool text_is_plain(const char *s)
{
	if (!*s)
		return false;
	for (; *s; s++)
		if (!isalnum((uint8_t)*s) && !strchr("-_./:@%+=,", *s))
			return false;
	return true;
}

int text_signal(const char *name)
{
	const char *bare = strncmp(name, "SIG", 3) == 0 ? name + 3 : name;
	char *end;
	long number = strtol(name, &end, 10);

	if (end != name && !*end)
		return number > 0 && number < NSIG ? (int)number : 0;
	for (int i = 1; i < NSIG; i++)
		if (sigabbrev_np(i) && strcmp(sigabbrev_np(i), bare) == 0)
			return i;
	return 0;
}

char *text_shell_word(const char *s)
{
	if (text_is_plain(s))
		return xstrdup(s);
	char *word = xcalloc(4 * strlen(s) + 3, 1), *to = word;

	*to++ = '\'';
	for (; *s; s++) {
		if (*s == '\'')
			to = stpcpy(to, "'\\''");
		else
			*to++ = *s;
	}
	*to = '\'';
	return word;
}

bool text_hash(const char *s, size_t least, char ret[TEXT_HASH_SIZE])
{
	size_t n = 0;

	for (; n < TEXT_HASH_SIZE - 1 && isxdigit((unsigned char)s[n]); n++)
		ret[n] = (char)tolower((unsigned char)s[n]);
	ret[n] = '\0';
	return n >= least && s[n] == '\0';
}
