/* What the two readers of the audit share: which rows are asked for, and a row as it is sent. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/store_find.h"

struct buf;
struct daemon;
struct request;

/* Bytes that one packed row may take. */
#define AUDIT_QUERY_ROW_MAX 4096
#define AUDIT_QUERY_PAGE_ROWS 50

struct audit_query {
	struct audit_filter filter; /* its texts are the request's, but for the tag */
	char key_tag[33];
	int64_t after; /* < 0: not said */
	int64_t limit;
};

/* Reads the params. False: the request was ended with invalid_request, naming the param. */
bool audit_query_read(struct daemon *d, struct request *r, struct audit_query *ret) _must_check_;
/* What was asked for, in words for the audit; "" for everything. */
void audit_query_describe(const struct audit_query *q, char *text, size_t size);
/* The row as a map. */
int audit_query_pack(const struct audit_row *row, struct buf *b) _must_check_;
