/*
 * Fuzzes the reader of export files, which anybody may have written: what is taken as a line means
 * the same when it is written again, to the last byte that the chain covers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "core/audit_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void fuzz_check(bool good)
{
	if (!good)
		abort();
}

/* 0, or AUDIT_JSON_E_BAD with words. */
static int fuzz_parse(const char *line, size_t n, struct audit_row *row, struct audit_export *e,
		      enum audit_line *kind)
{
	const char *why = NULL;
	int r = audit_json_parse(line, n, row, e, kind, &why);

	fuzz_check(r == 0 || (r == AUDIT_JSON_E_BAD && why && *why));
	return r;
}

static void fuzz_row(const struct audit_row *row)
{
	_cleanup_(buf_deinit) struct buf line = BUF_INIT(0), one = BUF_INIT(0), other = BUF_INIT(0);
	struct audit_row again;
	struct audit_export e;
	enum audit_line kind;

	fuzz_check(audit_json_row(row, &line) == 0);
	fuzz_check(fuzz_parse(buf_text(&line), line.len, &again, &e, &kind) == 0);
	fuzz_check(kind == AUDIT_LINE_ROW && memcmp(row->hash, again.hash, HASH_SIZE) == 0);
	fuzz_check(audit_encode(row, &one) == 0 && audit_encode(&again, &other) == 0);
	fuzz_check(one.len == other.len && memcmp(one.data, other.data, one.len) == 0);
}

static void fuzz_export(const struct audit_export *e, enum audit_line kind)
{
	_cleanup_(buf_deinit) struct buf line = BUF_INIT(0);
	struct audit_export again = *e;
	enum audit_line found;

	if (kind == AUDIT_LINE_BEGIN)
		memset(again.install, 0, sizeof(again.install));
	else
		memset(again.mac, 0, sizeof(again.mac));
	fuzz_check((kind == AUDIT_LINE_BEGIN ? audit_json_begin : audit_json_end)(e, &line) == 0);
	fuzz_check(fuzz_parse(buf_text(&line), line.len, NULL, &again, &found) == 0);
	fuzz_check(found == kind && strcmp(e->install, again.install) == 0);
	fuzz_check(e->after == again.after && e->to == again.to && e->rows == again.rows);
	fuzz_check(memcmp(e->mac, again.mac, HASH_SIZE) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct audit_export e = { 0 };
	struct audit_row row;
	enum audit_line kind;

	json_init();
	if (fuzz_parse((const char *)data, n, &row, &e, &kind) != 0)
		return 0;
	if (kind == AUDIT_LINE_ROW)
		fuzz_row(&row);
	else
		fuzz_export(&e, kind);
	return 0;
}
