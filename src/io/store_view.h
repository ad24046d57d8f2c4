/*
 * The audit of a state for programs beside the daemon: a read-only connection that never
 * checkpoints, and pages that each take one short read transaction, so that the daemon's log can
 * start anew. Creates nothing but the log's companions where they are missing.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "core/audit.h"
#include "core/audit_checkpoint.h"
#include "io/store.h"

#define STORE_PAGE_ROWS 1024

struct store_view;

/* What one transaction saw. */
struct store_page {
	struct audit_checkpoint checkpoint; /* genuine or not; all zeroes without one */
	size_t n;
	bool is_broken; /* the row after these has a value that no row has */
	int64_t broken; /* its sequence */
	struct audit_row rows[STORE_PAGE_ROWS];
};

/* Is there a state in `dir`? -ENOENT, -EACCES (not logged). */
int store_view_find(const char *dir) _must_check_;
/* -ENOENT (not logged): there is no state. STORE_E_NEWER, _CORRUPT, _BUSY; -errno. */
int store_view_open(struct store_view **ret, const char *dir) _must_check_;
void store_view_free(struct store_view *v);
DEFINE_CLEANUP(struct store_view, store_view)

/* Whose state it is: the fingerprint of its seal key, and its install id. */
int store_view_identity(struct store_view *v, char ret_fingerprint[33],
			char ret_install[STORE_INSTALL_SIZE]) _must_check_;
/* The highest sequence; 0 for an empty audit. */
int store_view_last(struct store_view *v, int64_t *ret) _must_check_;
/* The last row that was exported. Asked first, it is never behind the last one. */
int store_view_exported(struct store_view *v, uint64_t *ret) _must_check_;
/* The names of the triggers that are missing, or are not as a broker makes them; "" if none. */
int store_view_guards(struct store_view *v, char *ret, size_t size) _must_check_;
/* Up to STORE_PAGE_ROWS rows with `from` <= sequence <= `to`, in order. */
int store_view_read(struct store_view *v, int64_t from, int64_t to,
		    struct store_page *ret) _must_check_;
/*
 * SQLite's own check of the audit's pages, in one read transaction (about 0.3 s for a million
 * rows). "ok", or what is wrong.
 */
int store_view_check(struct store_view *v, char ret[256]) _must_check_;
