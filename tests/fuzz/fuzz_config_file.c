/*
 * Fuzzes the reader of keybroker.conf: whatever the bytes are, what is taken without an error is
 * shown by --check as a text that means the same, and no text spoils the reading of the next.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "core/config_build.h"
#include "core/option.h"
#include "io/config.h"
#include "io/config_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void fuzz_check(bool good)
{
	if (!good)
		abort();
}

static void fuzz_error(_unused_ void *userdata, const char *origin, const char *message)
{
	fuzz_check(strncmp(origin, "fuzz:", 5) == 0 && atoi(origin + 5) > 0);
	fuzz_check(*message != '\0');
}

/* The number of errors; `text` has room for a NUL behind its `n` bytes. */
static size_t fuzz_parse(struct config *c, char *text, size_t n)
{
	struct config_report report = { .error = fuzz_error };

	text[n] = '\0';
	config_file_parse("fuzz", text, n, c, &report);
	return report.n_errors;
}

static void fuzz_same(const void *a, const void *b, enum option_section first,
		      enum option_section last)
{
	for (size_t i = 0; i < option_count(); i++) {
		const struct option *o = option_at(i);
		_cleanup_(freep) char *one = NULL, *other = NULL;

		if (o->section < first || o->section > last)
			continue;
		one = option_show(o, a);
		other = option_show(o, b);
		fuzz_check(one ? other && strcmp(one, other) == 0 : !other);
	}
}

/* Shows, reads that, compares. */
static void fuzz_round_trip(const struct config *c)
{
	_cleanup_(config_freep) struct config *again = config_new();
	_cleanup_(freep) char *text = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&text, &n);

	fuzz_check(out != NULL);
	config_show(out, c);
	fuzz_check(fclose(out) == 0);
	fuzz_check(fuzz_parse(again, text, n) == 0);
	fuzz_same(c, again, SECTION_TOP, SECTION_LIMITS);
	fuzz_check(c->n_profiles == again->n_profiles && c->n_rules == again->n_rules &&
		   c->n_listens == again->n_listens);
	for (size_t i = 0; i < c->n_profiles; i++)
		fuzz_same(&c->profiles[i], &again->profiles[i], SECTION_PROFILE, SECTION_TEAM);
	for (size_t i = 0; i < c->n_rules; i++)
		fuzz_same(&c->rules[i], &again->rules[i], SECTION_RULE, SECTION_RULE);
	for (size_t i = 0; i < c->n_listens; i++)
		fuzz_same(&c->listens[i], &again->listens[i], SECTION_LISTEN, SECTION_LISTEN);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	_cleanup_(config_freep) struct config *c = config_new(), *next = config_new();
	_cleanup_(freep) char *text = xcalloc(n + 1, 1);
	char good[] = "socket = \"/a\" # x\nprofile \"p\" { models = { \"m\" } }\n";

	memcpy(text, data, n);
	if (fuzz_parse(c, text, n) == 0)
		fuzz_round_trip(c);
	fuzz_check(fuzz_parse(next, good, sizeof(good) - 1) == 0);
	fuzz_check(next->n_profiles == 1 && strcmp(next->socket_path, "/a") == 0);
	return 0;
}
