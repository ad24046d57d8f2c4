/* Reading paged lists: one page at a time, or all. */
#include "cli/pages.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/macros.h"
#include "cli/cli.h"
#include "cli/json_out.h"
#include "cli/text.h"
#include "proto/message.h"

enum { PAGES_ROWS = 50, PAGES_PARAMS_MAX = 16 };

/* Where the reading stands. */
struct pages_state {
	char *after; /* owned; by text */
	int64_t after_number;
	int64_t n_rows;
	bool opened; /* --json: the beginning has been printed */
};

static int pages_call(const struct cli *c, struct keybroker *k, const struct pages *p,
		      const struct pages_state *s, struct message **ret)
{
	int64_t left = p->limit < 0 ? PAGES_ROWS : p->limit - s->n_rows;
	struct call_param params[PAGES_PARAMS_MAX];
	const struct call call = { .method = p->method,
				   .params = params,
				   .n_params = p->n_params + 2 };
	struct keybroker_error e;

	assert(call.n_params <= PAGES_PARAMS_MAX);
	for (size_t i = 0; i < p->n_params; i++)
		params[i] = p->params[i];
	params[p->n_params] = p->by_number ? CALL_PARAM_INT("after", s->after_number)
					   : CALL_PARAM_TEXT("after", s->after);
	params[p->n_params + 1] = CALL_PARAM_INT("limit", MIN_OF(left, PAGES_ROWS));

	return keybroker_call(k, &call, ret, &e) == KEYBROKER_OK ? CLI_OK : cli_report(c, &e);
}

static void pages_show(const struct cli *c, const struct pages *p, struct pages_state *s,
		       const struct value *rows)
{
	for (size_t i = 0; i < value_len(rows) && (p->limit < 0 || s->n_rows < p->limit); i++) {
		if (!c->options.json)
			p->row(p->userdata, value_at(rows, i));
		else if (s->n_rows > 0)
			putchar(',');
		if (c->options.json)
			json_out(stdout, value_at(rows, i));
		s->n_rows++;
	}
}

/* Whether there is another page to ask for; notes where it begins. */
static bool pages_advance(const struct pages *p, struct pages_state *s, const struct value *result)
{
	const struct value *next = value_get(result, "next");
	const char *text = value_text(next);
	int64_t before = s->after_number;

	/* what goes on nowhere would be asked for again and again; a page of numbers may be empty
	 * and yet go on: a filter has let nothing through so far */
	if (p->by_number)
		return value_int(next, &s->after_number) && s->after_number > before;
	if (!text || value_len(value_get(result, p->list)) == 0)
		return false;
	free(s->after);
	s->after = xstrdup(text);
	return true;
}

static void pages_open_json(const struct cli *c, const struct pages *p, struct pages_state *s)
{
	if (c->options.json && !s->opened)
		printf("{\"%s\":[", p->list);
	s->opened = true;
}

static int pages_loop(const struct cli *c, struct keybroker *k, const struct pages *p,
		      struct pages_state *s)
{
	bool more = true;

	while (more && (p->limit < 0 || s->n_rows < p->limit)) {
		_cleanup_(message_freep) struct message *m = NULL;
		int r = pages_call(c, k, p, s, &m);

		if (r != CLI_OK)
			return r;
		/* not before there is a reply: an error prints nothing on stdout */
		pages_open_json(c, p, s);
		pages_show(c, p, s, value_get(message_result(m), p->list));
		more = pages_advance(p, s, message_result(m));
	}
	pages_open_json(c, p, s);
	if (c->options.json && more && p->by_number)
		printf("],\"next\":%lld}\n", (long long)s->after_number);
	else if (c->options.json)
		puts("]}");
	return CLI_OK;
}

int pages_read(const struct cli *c, const struct pages *p)
{
	_cleanup_(keybroker_closep) struct keybroker *k = NULL;
	struct pages_state s = { .after_number = p->after };
	int r = cli_connect(c, p->admin, &k);

	if (r == CLI_OK)
		r = pages_loop(c, k, p, &s);
	free(s.after);
	return r;
}

/* --- all at once --- */

const struct value *pages_kept_at(const struct pages_kept *kept, size_t i)
{
	return message_result(kept->pages[i]);
}

void pages_kept_deinit(struct pages_kept *kept)
{
	for (size_t i = 0; i < kept->n; i++)
		message_free(kept->pages[i]);
	free(kept->pages);
	*kept = (struct pages_kept){ 0 };
}

/* The param for the next page; false: that was the last one. What goes on nowhere is the last. */
static bool pages_next(const struct value *result, bool by_number, struct call_param *after)
{
	const struct value *next = value_get(result, "next");
	const char *text = value_text(next);
	struct call_param before = *after;
	int64_t number;

	if (by_number && value_int(next, &number) && number > before.number) {
		*after = CALL_PARAM_INT("after", number);
		return true;
	}
	if (by_number || !text || (before.text && strcmp(text, before.text) <= 0))
		return false;
	*after = CALL_PARAM_TEXT("after", text); /* the page's, which stays */
	return true;
}

int pages_keep(const struct cli *c, const char *method, bool by_number, bool upstream,
	       struct pages_kept *ret)
{
	struct call_param after =
		by_number ? CALL_PARAM_INT("after", 0) : CALL_PARAM_TEXT("after", NULL);
	const struct call call = {
		.method = method, .params = &after, .n_params = 1, .upstream = upstream
	};
	int r;

	do {
		struct message *m = NULL;

		r = cli_call(c, true, &call, &m);
		if (r != CLI_OK) {
			pages_kept_deinit(ret);
			return r;
		}
		ret->pages = xrealloc(ret->pages, ret->n + 1, sizeof(struct message *));
		ret->pages[ret->n++] = m;
	} while (pages_next(pages_kept_at(ret, ret->n - 1), by_number, &after));
	return CLI_OK;
}

static void pages_json_array(FILE *f, const struct pages_kept *kept, const char *name)
{
	bool first = true;

	(void)fputc('[', f); /* errors show when the stream is flushed */
	for (size_t i = 0; i < kept->n; i++) {
		const struct value *array = value_get(pages_kept_at(kept, i), name);

		for (size_t k = 0; k < value_len(array); k++) {
			if (!first)
				(void)fputc(',', f);
			json_out(f, value_at(array, k));
			first = false;
		}
	}
	(void)fputc(']', f);
}

void pages_kept_json(FILE *f, const struct pages_kept *kept)
{
	const struct value *v = pages_kept_at(kept, 0);
	bool first = true;

	for (size_t i = 0; i < value_len(v); i++) {
		const char *name = value_text(value_key_at(v, i));

		if (!name || strcmp(name, "next") == 0)
			continue;
		if (!first)
			(void)fputc(',', f);
		first = false;
		text_print_json(f, name);
		(void)fputc(':', f);
		if (value_type(value_value_at(v, i)) == VALUE_ARRAY)
			pages_json_array(f, kept, name);
		else
			json_out(f, value_value_at(v, i));
	}
}
