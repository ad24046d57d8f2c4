/* One walk over a file's text, before libConfuse's lexer sees it. Says more than that lexer could.
 */
#include "io/config_text.h"

#include <string.h>

#include "base/alloc.h"
#include "core/config_build.h"

#define CONFIG_TEXT_DEPTH 8 /* the deepest that makes sense is a list in a key in a profile */

struct config_text {
	const char *path;
	char *begin, *at, *end;
	int line;
	char before;	      /* the last character of a token, brace or '='; 0 after a space */
	char significant;     /* the last one that was neither space nor comment */
	bool list_is_empty;   /* right behind "= {" */
	bool string_is_empty; /* right behind "" */
	int open[CONFIG_TEXT_DEPTH]; /* the lines of the braces that are open */
	size_t depth;
	bool bad;
	struct config_report *report;
};

static void config_text_refuse(struct config_text *t, const char *message)
{
	_cleanup_(freep) char *origin = xasprintf("%s:%d", t->path, t->line);

	config_report_error(t->report, origin, "%s", message);
	t->bad = true;
}

static bool config_text_is(const struct config_text *t, const char *word)
{
	size_t n = strlen(word);

	return (size_t)(t->end - t->at) >= n && memcmp(t->at, word, n) == 0;
}

/* Makes spaces of `n` bytes, but leaves the lines. */
static void config_text_blank(struct config_text *t, size_t n)
{
	for (; n; n--, t->at++)
		if (*t->at == '\n')
			t->line++;
		else
			*t->at = ' ';
}

static void config_text_line_comment(struct config_text *t)
{
	const char *stop = memchr(t->at, '\n', (size_t)(t->end - t->at));

	config_text_blank(t, (size_t)((stop ? stop : t->end) - t->at));
}

static void config_text_block_comment(struct config_text *t)
{
	const char *stop = memmem(t->at + 2, (size_t)(t->end - t->at - 2), "*/", 2);

	if (!stop)
		config_text_refuse(t, "this comment has no */");
	config_text_blank(t, (size_t)((stop ? stop + 2 : t->end) - t->at));
}

static bool config_text_is_control(char c)
{
	return (unsigned char)c < ' ' || c == 0x7f;
}

static void config_text_refuse_dollar(struct config_text *t)
{
	config_text_refuse(t,
			   "\"${\" is not filled in here: write %{pid} for the caller's pid (also "
			   "%{uid} %{user} %{unit} %{host} %{profile})");
}

/* A backslash in a string; `at` stays on its second character. */
static void config_text_escape(struct config_text *t, char quote)
{
	if (t->at + 1 >= t->end || t->at[1] == '\n')
		return;
	t->at++;
	if (quote == '"' && !strchr("\\\"nt", *t->at))
		config_text_refuse(t, "of the escapes there are only \\\\ \\\" \\n and \\t");
}

/* From quote to quote, on one line. */
static void config_text_string(struct config_text *t)
{
	char quote = *t->at++;
	const char *begin = t->at;

	for (; t->at < t->end && *t->at != quote && *t->at != '\n'; t->at++) {
		if (*t->at == '\\')
			config_text_escape(t, quote);
		else if (config_text_is(t, "${"))
			config_text_refuse_dollar(t);
		else if (config_text_is_control(*t->at))
			config_text_refuse(t, "there is a control character in this string");
	}
	t->string_is_empty = t->at == begin;
	if (t->at < t->end && *t->at == quote)
		t->at++;
	else
		config_text_refuse(t, "this string does not end on its line");
}

/* What libConfuse's lexer would drop without a word, or fill in. */
static void config_text_token(struct config_text *t)
{
	if (config_text_is(t, "${"))
		config_text_refuse_dollar(t);
	else if (*t->at == '*' || (*t->at == '+' && !config_text_is(t, "+=")))
		config_text_refuse(t, "* and + must stand in quotes");
	else if (config_text_is_control(*t->at))
		config_text_refuse(t, "there is a control character here");
	t->at++;
}

static void config_text_brace(struct config_text *t, char c)
{
	if (c == '}' && t->depth)
		t->depth--;
	if (c != '{')
		return;
	if (t->depth == CONFIG_TEXT_DEPTH) {
		config_text_refuse(t, "this { is nested too deep");
		t->at = t->end - 1; /* the rest would only say the same */
		return;
	}
	t->open[t->depth++] = t->line;
}

/* At the } of "name = { }"; a comment within has become spaces. */
static void config_text_refuse_list(struct config_text *t)
{
	const char *end = t->at, *name;
	_cleanup_(freep) char *message = NULL;

	while (end > t->begin && *end != '=')
		end--;
	while (end > t->begin && strchr("+ \t\r\n", end[-1]))
		end--;
	for (name = end; name > t->begin && !strchr("{} \t\r\n", name[-1]);)
		name--;
	message = xasprintf("%.*s: this list is empty", (int)(end - name), name);
	config_text_refuse(t, message);
}

/* Keeps track of what libConfuse would take without a word: "= { }", a key "", a { that is never
 * closed. */
static void config_text_note(struct config_text *t, char c)
{
	if ((c == '=' || c == '+') && t->string_is_empty)
		config_text_refuse(t, "there is no key before =");
	t->string_is_empty = false;
	if (c == '}' && t->list_is_empty)
		config_text_refuse_list(t);
	config_text_brace(t, c);
	t->list_is_empty = c == '{' && t->significant == '=';
	t->significant = t->before = c;
}

/* A comment begins with # anywhere, with / only where no token is under way: http://… has none. */
static bool config_text_comment(struct config_text *t)
{
	bool in_token = t->before && !strchr("={}(),\"'", t->before);

	if (*t->at == '#' || (!in_token && config_text_is(t, "//")))
		config_text_line_comment(t);
	else if (!in_token && config_text_is(t, "/*"))
		config_text_block_comment(t);
	else
		return false;
	t->before = 0;
	return true;
}

static void config_text_step(struct config_text *t)
{
	char c = *t->at;

	if (config_text_comment(t))
		return;
	if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
		t->before = 0;
		if (c == '\r') /* of a file from elsewhere */
			*t->at = ' ';
		t->line += c == '\n';
		t->at++;
		return;
	}
	config_text_note(t, c);
	if (c == '"' || c == '\'')
		config_text_string(t);
	else
		config_text_token(t);
}

bool config_text_clean(const char *path, char *text, size_t n, struct config_report *report)
{
	struct config_text t = { .path = path,
				 .begin = text,
				 .at = text,
				 .end = text + n,
				 .line = 1,
				 .report = report };

	if (config_text_is(&t, "\xef\xbb\xbf"))
		config_text_blank(&t, 3);
	while (t.at < t.end)
		config_text_step(&t);
	if (t.depth && !t.bad) {
		t.line = t.open[t.depth - 1];
		config_text_refuse(&t, "this { has no }");
	}
	return !t.bad;
}
