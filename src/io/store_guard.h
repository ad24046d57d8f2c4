/*
 * What shows that somebody was at the state behind the broker's back: triggers that are missing or
 * are not as a schema's steps make them, and exported rows that are gone. Additional triggers are
 * not ours to judge.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

struct store;
struct store_conn;
struct store_guards;

#define STORE_TAMPERING_SIZE 512
#define STORE_EXPORTED "audit_exported" /* of meta */

/* What the last claim found, and put right as far as it can be; "" if nothing. It has been logged;
 * for the audit. */
const char *store_tampering(const struct store *s);

/* --- for io/store*.c alone --- */

/* The triggers that a schema has. STORE_E_*; -errno. */
int store_guards_new(struct store_guards **ret, long version) _must_check_;
void store_guards_free(struct store_guards *g);
DEFINE_CLEANUP(struct store_guards, store_guards)
/* The names of those that are missing or are not as they must be; "" if all is well. */
int store_guards_bad(const struct store_guards *guards, struct store_conn *c, char *ret,
		     size_t size) _must_check_;
/* Within the claim's transaction, when the head is known: puts right what can be, and keeps in mind
 * what it was. */
int store_tampering_settle(struct store *s, struct store_conn *c) _must_check_;
/* The last row that was exported, 0 for none. */
int store_exported_read(struct store_conn *c, uint64_t *ret) _must_check_;
