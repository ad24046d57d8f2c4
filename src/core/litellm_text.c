/*
 * LiteLLM's error texts: finding the words in each of its shapes, and taking every credential out
 * of them before anyone reads them. Error bodies may repeat whole keys.
 */
#include "core/litellm_parts.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/json.h"

#define LITELLM_HASH_DIGITS 64
#define LITELLM_LONG_RUN 16   /* so much behind an "sk-" is a key, even in the middle of a word */
#define LITELLM_TELLING 4     /* so many characters of a secret tell something of it */
#define LITELLM_DETAILS_MAX 3 /* validation errors that are quoted */

static bool litellm_is_word(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Characters of keys, and of LiteLLM's own abbreviations of them ("sk-...7Fbg", "no-p****efix"). */
static bool litellm_is_key_char(char c)
{
	return litellm_is_word(c) || (c != '\0' && strchr("-_.*+/=", c));
}

static bool litellm_is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static size_t litellm_run(const char *p, bool (*is)(char c))
{
	size_t n = 0, one;
	uint32_t c;

	while ((c = litellm_spelled(p + n, &one)) && c < 0x80 && is((char)c))
		n += one;
	return n;
}

/* LiteLLM quotes what it was sent behind these, whatever it looks like. */
static size_t litellm_quoted(const char *p)
{
	static const char *const before[] = { "Received=",  "'sk-'. Received: ", "User Key=",
					      "API Key = ", "Passed in: ",	 "Bearer " };

	for (size_t i = 0; i < ARRAY_SIZE(before); i++)
		if (strncmp(p, before[i], strlen(before[i])) == 0)
			return strlen(before[i]);
	return 0;
}

/* How many characters to keep at `p` before a credential of `ret_n` characters; both 0 if nothing
 * of interest starts here. */
static size_t litellm_credential(const char *text, const char *p, size_t *ret_n)
{
	size_t keep = litellm_quoted(p);
	size_t run, told;

	*ret_n = 0;
	if (keep > 0) {
		*ret_n = litellm_run(p + keep, litellm_is_key_char);
		return keep;
	}
	keep = litellm_spells(p, "sk-", &told);
	if (told == 3) {
		run = litellm_run(p + keep, litellm_is_key_char);
		/* "ask-bot" is a name */
		if (p == text || *p == '\\' || !litellm_is_word(p[-1]) || run >= LITELLM_LONG_RUN)
			*ret_n = run;
		return keep;
	}
	run = litellm_run(p, litellm_is_hex);
	if (run >= LITELLM_HASH_DIGITS)
		*ret_n = run;
	return 0;
}

/* To where something else may begin: no part of a run of backslashes spells what the run doesn't,
 * and each part would be looked at to the run's end. */
static size_t litellm_step(const char *p)
{
	return MAX_OF(strspn(p, "\\"), (size_t)1);
}

void litellm_redact(char *text)
{
	const char *from = text;
	char *to = text;

	while (*from) {
		size_t n;
		size_t keep = litellm_credential(text, from, &n);

		if (keep == 0 && n == 0)
			keep = litellm_step(from);
		memmove(to, from, keep);
		to += keep;
		from += keep + n;
		n = MIN_OF(n, (size_t)3);
		memset(to, '*', n);
		to += n;
	}
	*to = '\0';
}

/* Does what was told of something longer end here? */
static bool litellm_is_cut(const char *p)
{
	static const char *const marks[] = { "...", "\xe2\x80\xa6", "**" };

	p += strspn(p, "\\");
	for (size_t i = 0; i < ARRAY_SIZE(marks); i++)
		if (strncmp(p, marks[i], strlen(marks[i])) == 0)
			return true;
	return !*p;
}

/* Upstream masks what looks like its own keys, but a master key may look like anything. */
void litellm_hide(char *text, const char *secret)
{
	size_t len, told, n;

	(void)litellm_spells(secret, secret, &len);
	while (*text) {
		n = litellm_spells(text, secret, &told);
		if (told > 0 && (told == len || (told >= LITELLM_TELLING &&
						 (told > len / 2 || litellm_is_cut(text + n)))))
			memset(text, '*', n);
		else
			n = litellm_step(text);
		text += n;
	}
}

/* Controls, and what turns the text around or stands in it unseen: terminals and logs obey it. */
static bool litellm_is_unseen(uint32_t c)
{
	static const struct {
		uint32_t first, last;
	} unseen[] = {
		{ 0, 0x1f },	    { 0x7f, 0x9f },	  { 0xad, 0xad },     { 0x61c, 0x61c },
		{ 0x115f, 0x1160 }, { 0x180b, 0x180f },	  { 0x200b, 0x200f }, { 0x2028, 0x202e },
		{ 0x2060, 0x206f }, { 0x3164, 0x3164 },	  { 0xfe00, 0xfe0f }, { 0xfeff, 0xfeff },
		{ 0xfff0, 0xfffb }, { 0xe0000, 0xe0fff },
	};

	for (size_t i = 0; i < ARRAY_SIZE(unseen); i++)
		if (c >= unseen[i].first && c <= unseen[i].last)
			return true;
	return false;
}

/* Length of the UTF-8 sequence at `p`, 0 if it isn't a valid one of a printable character. */
static size_t litellm_utf8(const char *p)
{
	const unsigned char *u = (const unsigned char *)p;
	size_t n = u[0] < 0x80 ? 1 : u[0] >= 0xf0 ? 4 : u[0] >= 0xe0 ? 3 : 2;
	uint32_t c = n == 1 ? u[0] : u[0] & (0x7fu >> n);
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };

	if ((u[0] >= 0x80 && u[0] < 0xc2) || u[0] > 0xf4)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((u[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (u[i] & 0x3f);
	}
	if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 0;
	return litellm_is_unseen(c) ? 0 : n;
}

void litellm_say(const char *words, char *ret, size_t size)
{
	char *copy = xstrdup(words);
	size_t len = 0;

	litellm_redact(copy); /* before it is cut: half a hash would not be known for one */
	for (const char *p = copy; *p;) {
		size_t n = litellm_utf8(p);

		if (len + MAX_OF(n, (size_t)1) >= size)
			break;
		if (n == 0)
			ret[len] = (unsigned char)*p < 0x80 ? ' ' : '?';
		else
			memcpy(ret + len, p, n);
		len += MAX_OF(n, (size_t)1);
		p += MAX_OF(n, (size_t)1);
	}
	ret[len] = '\0';
	json_text_free(copy); /* wiped */
}

/* LiteLLM prints Python dicts into messages: "{'error': 'No keys found'}" becomes its one value.
 * Anything else stays as it is. */
static char *litellm_undict(const char *message)
{
	static const char *const heads[] = { "{'error': ", "{'message': ", "{\"error\": " };
	char *out = xstrdup(message);
	size_t n = strlen(message), head = 0, len = 0;

	for (size_t i = 0; i < ARRAY_SIZE(heads); i++)
		if (strncmp(message, heads[i], strlen(heads[i])) == 0)
			head = strlen(heads[i]);
	if (head == 0 || n < head + 3 || message[n - 1] != '}' || message[n - 2] != message[head] ||
	    !strchr("'\"", message[head]))
		return out;
	for (size_t i = head + 1; i < n - 2; i++) {
		if (message[i] == '\\' && i + 1 < n - 2)
			i++;
		out[len++] = message[i];
	}
	out[len] = '\0';
	return out;
}

/* "body.models: Input should be a valid list". The `input` that comes with it may be a key, and is
 * left out. */
static int litellm_invalid(const struct json *item, struct buf *b)
{
	const struct json *place = json_get(item, "loc");
	const char *text = json_get_text(item, "msg");
	int r = 0;

	if (b->len > 0)
		r = buf_append(b, "; ", 2);
	for (size_t i = 0; i < json_len(place) && r == 0; i++) {
		const char *name = json_text(json_at(place, i));

		if (name)
			r = buf_printf(b, "%s%s", i ? "." : "", name);
	}
	if (r == 0)
		r = buf_printf(b, "%s%s", json_len(place) ? ": " : "", text ? text : "not valid");
	return r;
}

static char *litellm_invalids(const struct json *list)
{
	_cleanup_(buf_deinit) struct buf b = BUF_INIT(0);
	const char *text;
	int r = 0;

	for (size_t i = 0; i < json_len(list) && i < LITELLM_DETAILS_MAX && r == 0; i++)
		r = litellm_invalid(json_at(list, i), &b);
	text = buf_text(&b);
	return xstrdup(r == 0 && text ? text : "");
}

/* The words of a message that is a text, an object with `error` or `message`, or a list. */
static char *litellm_words(const struct json *node)
{
	const char *text = json_text(node);

	if (!text)
		text = json_get_text(node, "error");
	if (!text)
		text = json_get_text(node, "message");
	if (text)
		return litellm_undict(text);
	return json_is_array(node) ? litellm_invalids(node) : xstrdup("");
}

static bool litellm_read_plain(const char *body, size_t n, struct litellm_error *ret)
{
	static const char known[] = "Internal Server Error";

	ret->words = xcalloc(n + 1, 1);
	for (size_t i = 0; i < n; i++)
		ret->words[i] = (char)(body[i] ? body[i] : ' ');
	return n == sizeof(known) - 1 && memcmp(body, known, n) == 0;
}

bool litellm_read_error(const struct json *doc, const char *body, size_t n,
			struct litellm_error *ret)
{
	const struct json *error = json_get(doc, "error");
	const struct json *detail = json_get(doc, "detail");
	const char *type = json_get_text(error, "type");

	*ret = (struct litellm_error){ 0 };
	if (!json_is_object(error) && !detail)
		return litellm_read_plain(body, n, ret);
	(void)snprintf(ret->type, sizeof(ret->type), "%s", type ? type : "");
	ret->words = litellm_words(json_is_object(error) ? json_get(error, "message") : detail);
	return true;
}
