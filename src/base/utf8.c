/* Well-formed UTF-8, as RFC 3629 has it: no overlong forms, no surrogates, nothing over U+10FFFF.
 */
#include "base/utf8.h"

#include <string.h>

/* Bytes of the character that begins with `first`; 0: none does. */
static size_t utf8_length(unsigned char first)
{
	if (first < 0x80)
		return 1;
	if (first >= 0xc2 && first <= 0xdf)
		return 2;
	if ((first & 0xf0) == 0xe0)
		return 3;
	return first >= 0xf0 && first <= 0xf4 ? 4 : 0;
}

/* May `second` follow `first`? This is where overlong forms and surrogates show. */
static int utf8_may_follow(unsigned char first, unsigned char second)
{
	switch (first) {
	case 0xe0:
		return second >= 0xa0 && second <= 0xbf;
	case 0xed:
		return second >= 0x80 && second <= 0x9f;
	case 0xf0:
		return second >= 0x90 && second <= 0xbf;
	case 0xf4:
		return second >= 0x80 && second <= 0x8f;
	default:
		return (second & 0xc0) == 0x80;
	}
}

/* Of the `n` bytes that the character should have: how many are right, the first counting. */
static size_t utf8_good(const unsigned char *at, size_t n)
{
	size_t good = 1;

	if (n > 1 && utf8_may_follow(at[0], at[1]))
		for (good = 2; good < n && (at[good] & 0xc0) == 0x80;)
			good++;
	return good;
}

void utf8_clean(char *text)
{
	unsigned char *at = (unsigned char *)text;

	while (*at) {
		size_t n = utf8_length(*at), good = utf8_good(at, n);

		if (n > 0 && good == n) {
			at += n;
		} else if (n > 0 && at[good] == '\0') {
			*at = '\0';
		} else {
			memset(at, '?', good);
			at += good;
		}
	}
}

bool utf8_is_good(const char *text, size_t n)
{
	const unsigned char *at = (const unsigned char *)text, *end = at + n;

	while (at < end && *at) {
		size_t length = utf8_length(*at);

		if (length == 0 || length > (size_t)(end - at) || utf8_good(at, length) < length)
			return false;
		at += length;
	}
	return at == end;
}
