/*
 * Rows of the audit as the chain must see them. Only io/store*.c and their tests include this.
 */
#pragma once

#include <stdbool.h>

#include "core/audit.h"
#include "core/audit_checkpoint.h"
#include "io/store_conn.h"

/*
 * The next row of a statement that selects all columns of the audit. STORE_E_BROKEN (not logged):
 * it has a value that no row of ours has, and of `row` only the sequence is set. `stmt` may be NULL
 * (its preparation failed).
 */
int store_audit_next(struct store_conn *c, sqlite3_stmt *stmt, struct audit_row *row,
		     bool *ret_more) _must_check_;
/* The checkpoint as it stands, genuine or not; all zeroes without one. */
int store_checkpoint_read(struct store_conn *c, struct audit_checkpoint *ret) _must_check_;
