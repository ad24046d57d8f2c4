/*
 * Rows of C and rows of SQL: one table per kind says which member is which column, and binding,
 * reading and the statements' column lists all come from it.
 */
#pragma once

#include <sqlite3.h>
#include <stddef.h>

#include "base/macros.h"

enum store_type {
	STORE_TEXT,
	STORE_BYTES,
	STORE_INT64,
	STORE_UINT32,
	STORE_INT32,
	STORE_BOOL,
	STORE_ENUM, /* its name is stored */
};

struct store_column {
	const char *name;
	enum store_type type;
	size_t offset, size;
	const char *(*enum_name)(unsigned value); /* STORE_ENUM; NULL beyond the last value */
};

struct store_table {
	const struct store_column *columns;
	size_t n_columns;
};

extern const struct store_table store_table_leader, store_table_instance, store_table_key,
	store_table_lease, store_table_audit;

/* "a, b, c"; free with free(). */
char *store_columns_text(const struct store_table *table) _must_check_;
/* Binds the members to parameters 1, 2, …; `row` must outlive the step. An SQLite code. */
int store_columns_bind(const struct store_table *table, sqlite3_stmt *stmt,
		       const void *row) _must_check_;
/* Reads the current row's columns 0, 1, …. -EBADMSG (logged): a value that no row of ours has. */
int store_columns_read(const struct store_table *table, sqlite3_stmt *stmt, void *row) _must_check_;
