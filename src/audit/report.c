/* The report. The head stands as --head takes it. */
#include "audit/report.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "audit/args.h"
#include "audit/exit.h"
#include "base/crypt.h"
#include "base/json.h"

#define REPORT_HEAD_MAX (24 + HASH_HEX_SIZE)

static void report_head(const struct report *r, char ret[REPORT_HEAD_MAX])
{
	char hash[HASH_HEX_SIZE];

	crypt_hex(r->hash, HASH_SIZE, hash);
	(void)snprintf(ret, REPORT_HEAD_MAX, "%" PRIu64 ":%s", r->last, hash);
}

static void report_time(int64_t ms, char ret[32])
{
	time_t seconds = (time_t)(ms / 1000);
	struct tm tm;

	if (!gmtime_r(&seconds, &tm) || strftime(ret, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		(void)snprintf(ret, 32, "%" PRId64 " ms", ms);
}

static void report_people(const struct report *r, const char *why, size_t n_unproven)
{
	const char *whole = r->verdict.fault == CHAIN_GOOD ? "whole" : "whole before it";
	char head[REPORT_HEAD_MAX], when[32];

	report_head(r, head);
	report_time(r->checkpoint.pruned_at_ms, when);
	if (r->verdict.fault != CHAIN_GOOD)
		printf("BROKEN at row %" PRId64 ": %s\n", r->verdict.sequence, why);
	if (r->n_rows == 0)
		printf("%s: no rows\n", whole);
	else
		printf("%s: %" PRIu64 " rows, %" PRIu64 " to %" PRIu64 "\n", whole, r->n_rows,
		       r->first, r->last);
	if (r->checkpoint.sequence)
		printf("pruned: %" PRIu64 " rows, up to %" PRIu64 ", the last time %s\n",
		       r->checkpoint.count, r->checkpoint.sequence, when);
	if (r->last)
		printf("head: %s\n", head);
	if (n_unproven)
		printf("NOT PROVEN: that this is the audit which %zu of the given heads are from\n",
		       n_unproven);
}

/* Without memory for one line nothing is printed, and the exit code still tells. */
static void report_json(const struct report *r, const char *why, size_t n_unproven)
{
	_cleanup_(json_freep) struct json *doc = json_new_object();
	bool whole = r->verdict.fault == CHAIN_GOOD;
	char head[REPORT_HEAD_MAX];
	int n = json_set_bool(doc, "whole", whole);
	char *text;

	report_head(r, head);
	n |= json_set_int(doc, "rows", (int64_t)r->n_rows);
	n |= json_set_int(doc, "first", (int64_t)r->first);
	n |= json_set_int(doc, "last", (int64_t)r->last);
	n |= json_set_text(doc, "head", r->last ? head : "");
	n |= json_set_int(doc, "pruned", (int64_t)r->checkpoint.sequence);
	n |= json_set_int(doc, "heads_unproven", (int64_t)n_unproven);
	if (!whole) {
		n |= json_set_int(doc, "first_bad", r->verdict.sequence);
		n |= json_set_text(doc, "fault", chain_fault_name(r->verdict.fault));
		n |= json_set_text(doc, "message", why);
	}
	text = n == 0 ? json_dump(doc) : NULL;
	if (text)
		puts(text);
	json_text_free(text);
}

/*
 * A head whose row a prune took cannot be held against anything: a whole audit of another state,
 * put here with its own checkpoint, would look the same.
 */
static size_t report_heads(const struct args *a, const struct report *r)
{
	size_t n = 0;

	for (size_t i = 0; i < a->n_heads; i++) {
		if (a->heads[i].state != CHAIN_HEAD_OPEN ||
		    a->heads[i].sequence >= r->checkpoint.sequence)
			continue;
		args_say("head %" PRIu64 " could not be checked: the rows up to %" PRIu64
			 " were pruned; verify the export that has its row with this head",
			 a->heads[i].sequence, r->checkpoint.sequence);
		n++;
	}
	return n;
}

int report_print(const struct args *a, const struct report *r)
{
	char text[CHAIN_TEXT_MAX];

	size_t n_unproven = report_heads(a, r);

	chain_text(&r->verdict, text);
	if (a->json)
		report_json(r, r->why ? r->why : text, n_unproven);
	else
		report_people(r, r->why ? r->why : text, n_unproven);
	if (r->verdict.fault != CHAIN_GOOD)
		return EXIT_BROKEN;
	return n_unproven ? EXIT_UNPROVEN : 0;
}
