/* Tables for people. A table owns its cells, which are cleaned of control characters. */
#include "cli/table.h"

#include <assert.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/alloc.h"
#include "cli/text.h"

enum { TABLE_GAP = 2, TABLE_NARROWEST = 8, TABLE_USUAL_WIDTH = 80 };

struct table {
	const char *const *titles;
	size_t n_columns;
	char **cells; /* owned, row by row */
	size_t n_cells;
	size_t cap;
};

struct table *table_new(const char *const titles[])
{
	struct table *t = xcalloc(1, sizeof(*t));

	t->titles = titles;
	while (titles[t->n_columns])
		t->n_columns++;
	assert(t->n_columns > 0 && t->n_columns <= TABLE_COLUMNS_MAX);
	return t;
}

void table_free(struct table *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->n_cells; i++)
		free(t->cells[i]);
	free(t->cells);
	free(t);
}

void table_cell(struct table *t, const char *fmt, ...)
{
	_cleanup_(freep) char *text = NULL;
	va_list args;

	va_start(args, fmt);
	int n = vasprintf(&text, fmt, args);
	va_end(args);
	if (n < 0)
		abort();
	if (t->n_cells == t->cap) {
		t->cap = t->cap ? 2 * t->cap : 64;
		t->cells = xrealloc(t->cells, t->cap, sizeof(*t->cells));
	}
	t->cells[t->n_cells++] = text_clean(text);
}

void table_end_row(struct table *t)
{
	while (t->n_cells % t->n_columns != 0)
		table_cell(t, "%s", "");
}

size_t table_n_rows(const struct table *t)
{
	return t->n_cells / t->n_columns;
}

static const char *table_title(const struct table *t, size_t column)
{
	return t->titles[column] + (t->titles[column][0] == '>');
}

/* The width that each column wants; yields the sum with the gaps. */
static size_t table_measure(const struct table *t, size_t widths[])
{
	size_t sum = (t->n_columns - 1) * TABLE_GAP;

	for (size_t c = 0; c < t->n_columns; c++) {
		widths[c] = text_width(table_title(t, c));
		for (size_t i = c; i < t->n_cells; i += t->n_columns)
			widths[c] = MAX_OF(widths[c], text_width(t->cells[i]));
		sum += widths[c];
	}
	return sum;
}

/* Takes from the widest column, one by one, until the rows fit. */
static void table_shrink(const struct table *t, size_t widths[], size_t sum, size_t width)
{
	assert(t->n_columns > 0);
	for (; sum > width; sum--) {
		size_t widest = 0;

		for (size_t c = 1; c < t->n_columns; c++)
			if (widths[c] >= widths[widest])
				widest = c;
		if (widths[widest] <= TABLE_NARROWEST)
			return;
		widths[widest]--;
	}
}

/* Prints one cell behind `*spaces`, and leaves there what the next one is to stand behind: so no
 * line ends in spaces. */
static void table_print_cell(const struct table *t, FILE *f, size_t column, const char *text,
			     size_t width, size_t *spaces)
{
	size_t columns = text_width(text);
	bool cut = columns > width;
	int n = (int)(cut ? text_prefix(text, width - 1) : strlen(text));
	size_t pad = cut ? 0 : width - columns;
	bool right = t->titles[column][0] == '>';

	if (*text) /* errors show when the stream is flushed */
		(void)fprintf(f, "%*s%.*s%s", (int)(*spaces + (right ? pad : 0)), "", n, text,
			      cut ? "…" : "");
	*spaces = (*text ? 0 : *spaces) + (*text && right ? 0 : pad) + TABLE_GAP;
}

static void table_print_row(const struct table *t, FILE *f, char *const cells[],
			    const size_t widths[])
{
	size_t spaces = 0;

	for (size_t c = 0; c < t->n_columns; c++)
		table_print_cell(t, f, c, cells ? cells[c] : table_title(t, c), widths[c], &spaces);
	(void)fputc('\n', f);
}

size_t table_width(int fd)
{
	struct winsize size = { 0 };

	if (!isatty(fd))
		return SIZE_MAX;
	/* a serial line does not know its width */
	return ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : TABLE_USUAL_WIDTH;
}

void table_print(const struct table *t, FILE *f, size_t width)
{
	size_t widths[TABLE_COLUMNS_MAX];

	table_shrink(t, widths, table_measure(t, widths), width);
	table_print_row(t, f, NULL, widths);
	for (size_t i = 0; i < t->n_cells; i += t->n_columns)
		table_print_row(t, f, t->cells + i, widths);
}
