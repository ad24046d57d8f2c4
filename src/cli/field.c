/* Fields of a reply, for printing. */
#include "cli/field.h"

#include <inttypes.h>

#include "base/alloc.h"
#include "cli/text.h"
#include "proto/message.h"

const char *field_text(const struct value *map, const char *name)
{
	const char *text = value_text(value_get(map, name));

	return text ? text : "";
}

int64_t field_int(const struct value *map, const char *name)
{
	int64_t n = 0;

	(void)value_int(value_get(map, name), &n); /* absent: 0 */
	return n;
}

char *field_join(const struct value *array)
{
	char *all = xstrdup("");

	for (size_t i = 0; i < value_len(array); i++) {
		const struct value *v = value_at(array, i);
		const char *text = value_text(v), *gap = i ? ", " : "";
		int64_t n = 0;

		(void)value_int(v, &n); /* text otherwise */
		char *longer = text ? xasprintf("%s%s%s", all, gap, text)
				    : xasprintf("%s%s%" PRId64, all, gap, n);
		free(all);
		all = longer;
	}
	return all;
}

const char *field_count(const struct value *map, const char *name, const char *noun,
			char ret[FIELD_COUNT_SIZE])
{
	int64_t n = field_int(map, name);

	(void)snprintf(ret, FIELD_COUNT_SIZE, "%" PRId64 " %s%s", n, noun, n == 1 ? "" : "s");
	return ret;
}

void field_print(FILE *f, const char *name, const char *text)
{
	_cleanup_(freep) char *clean = text_clean(text);

	(void)fprintf(f, "%-7s %s\n", name, clean); /* errors show when the stream is flushed */
}
