/*
 * The audit as JSON lines: one line that says where an export begins, one for each row with every
 * column, and one that says where it ends, signed with the audit key. Text that is not UTF-8 stands
 * as hex digits in NAME_hex, so that nothing of a row is lost.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "core/audit.h"

struct keyring;

/* What one export covers. */
struct audit_export {
	char install[64];	     /* whose audit it is */
	uint64_t after;		     /* the sequence before its first row */
	uint8_t previous[HASH_SIZE]; /* the chain value there */
	int64_t exported_at_ms;
	uint64_t to, rows; /* its last sequence; how many rows */
	uint8_t hash[HASH_SIZE];
	uint8_t mac[HASH_SIZE]; /* over all of the above */
};

enum audit_line { AUDIT_LINE_BEGIN, AUDIT_LINE_ROW, AUDIT_LINE_END };

enum { AUDIT_JSON_E_BAD = 1 };

void audit_export_sign(const struct keyring *k, struct audit_export *e);
bool audit_export_is_genuine(const struct keyring *k, const struct audit_export *e);

/* One line with its line end, appended. -ENOMEM, -ENOBUFS. */
int audit_json_begin(const struct audit_export *e, struct buf *b) _must_check_;
int audit_json_row(const struct audit_row *row, struct buf *b) _must_check_;
int audit_json_end(const struct audit_export *e, struct buf *b) _must_check_;
/*
 * Reads one line: a row into `row`; a beginning or an end into their part of `e`, leaving the other
 * part as it is. Exactly the fields that an export writes are taken. AUDIT_JSON_E_BAD: `ret_why`
 * says what is wrong with the line.
 */
int audit_json_parse(const char *line, size_t n, struct audit_row *row, struct audit_export *e,
		     enum audit_line *ret, const char **ret_why) _must_check_;
