/* What was spent, in dollars, which travel as millionths. */
#include "cli/spend.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/field.h"
#include "cli/pages.h"
#include "cli/table.h"
#include "proto/message.h"

#define SPEND_SIZE 32

/* "$12.3456"; "" where there is none. */
static const char *spend_dollars(const struct value *row, const char *name, char ret[SPEND_SIZE])
{
	int64_t micros;

	*ret = '\0';
	if (value_int(value_get(row, name), &micros) && micros >= 0)
		(void)snprintf(ret, SPEND_SIZE, "$%" PRId64 ".%04" PRId64, micros / 1000000,
			       micros % 1000000 / 100);
	return ret;
}

static void spend_row(struct table *t, const char *what, const char *name, const struct value *row)
{
	char spent[SPEND_SIZE], budget[SPEND_SIZE];
	int64_t keys;

	table_cell(t, "%s", what);
	table_cell(t, "%s", *name ? name : "(unknown to the broker)");
	if (value_int(value_get(row, "keys"), &keys))
		table_cell(t, "%" PRId64, keys);
	else
		table_cell(t, "%s", field_text(row, "key_hash"));
	table_cell(t, "%s", spend_dollars(row, "spend_micros", spent));
	table_cell(t, "%s", spend_dollars(row, "max_budget_micros", budget));
	table_cell(t, "%s", field_text(row, "budget_duration"));
	table_end_row(t);
}

static void spend_rows(struct table *t, const struct pages_kept *pages, const char *list,
		       const char *what, const char *name)
{
	for (size_t i = 0; i < pages->n; i++) {
		const struct value *rows = value_get(pages_kept_at(pages, i), list);

		for (size_t k = 0; k < value_len(rows); k++) {
			const struct value *row = value_at(rows, k);
			const char *shown = field_text(row, name);

			/* of teams alone */
			spend_row(t, what, *shown ? shown : field_text(row, "id"), row);
		}
	}
}

void spend_print(const struct pages_kept *pages)
{
	static const char *const titles[] = { "SPENT BY", "NAME", "KEYS", ">SPENT",
					      ">BUDGET",  "PER",  NULL };
	_cleanup_(table_freep) struct table *t = table_new(titles);

	spend_rows(t, pages, "teams", "team", "alias");
	spend_rows(t, pages, "profiles", "profile", "profile");
	spend_rows(t, pages, "keys", "key", "alias");
	putchar('\n');
	table_print(t, stdout, table_width(STDOUT_FILENO));
}
