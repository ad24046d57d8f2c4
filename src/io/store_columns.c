/*
 * The columns of leader, key, lease and audit, and the generic binding and reading of a row. Owns
 * nothing; the order here is the order of the statements' parameters.
 */
#include "io/store_columns.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/log.h"
#include "core/audit.h"
#include "core/key.h"
#include "core/lease.h"
#include "io/store.h"

/* The column type follows from the member's C type, so that the two can't disagree. */
#define STORE_COLUMN(row, member)                                                         \
	{                                                                                 \
		.name = #member, .offset = offsetof(struct row, member),                \
		.size = sizeof(((struct row *)0)->member),                              \
		.type = _Generic(((struct row *)0)->member,                             \
				 char *: STORE_TEXT,                                    \
				 uint8_t *: STORE_BYTES,                                \
				 int64_t: STORE_INT64,                                  \
				 uint64_t: STORE_INT64,                                 \
				 uint32_t: STORE_UINT32,                                \
				 int32_t: STORE_INT32,                                  \
				 bool: STORE_BOOL) \
	}
#define STORE_COLUMN_ENUM(row, member, names)                                                \
	{                                                                                    \
		.name = #member, .type = STORE_ENUM, .offset = offsetof(struct row, member), \
		.size = sizeof(((struct row *)0)->member), .enum_name = (names)              \
	}
#define STORE_TABLE(list)                                        \
	{                                                        \
		.columns = (list), .n_columns = ARRAY_SIZE(list) \
	}

static const char *store_mode_name(unsigned v)
{
	return v <= PROFILE_STATIC ? profile_mode_name((enum profile_mode)v) : NULL;
}

static const char *store_key_state_name(unsigned v)
{
	return v < KEY_N_STATES ? key_state_name((enum key_state)v) : NULL;
}

static const char *store_key_source_name(unsigned v)
{
	return v <= KEY_LEGACY ? key_source_name((enum key_source)v) : NULL;
}

static const char *store_lease_state_name(unsigned v)
{
	return v <= LEASE_REVOKED ? lease_state_name((enum lease_state)v) : NULL;
}

static const char *store_lease_bind_name(unsigned v)
{
	return v <= LEASE_TTL ? lease_bind_name((enum lease_bind)v) : NULL;
}

static const struct store_column store_leader_columns[] = {
	STORE_COLUMN(leader, term),	  STORE_COLUMN(leader, pid),
	STORE_COLUMN(leader, start_time), STORE_COLUMN(leader, boot_id),
	STORE_COLUMN(leader, pidns),	  STORE_COLUMN(leader, holder),
	STORE_COLUMN(leader, instance),	  STORE_COLUMN(leader, beat),
};

/* Who is registered is described as who leads is. */
static const struct store_column store_instance_columns[] = {
	STORE_COLUMN(leader, holder),  STORE_COLUMN(leader, instance),
	STORE_COLUMN(leader, pid),     STORE_COLUMN(leader, start_time),
	STORE_COLUMN(leader, boot_id), STORE_COLUMN(leader, pidns),
	STORE_COLUMN(leader, beat),
};

static const struct store_column store_key_columns[] = {
	STORE_COLUMN(key_row, id),
	STORE_COLUMN(key_row, profile),
	STORE_COLUMN_ENUM(key_row, mode, store_mode_name),
	STORE_COLUMN_ENUM(key_row, state, store_key_state_name),
	STORE_COLUMN_ENUM(key_row, source, store_key_source_name),
	STORE_COLUMN(key_row, generation),
	STORE_COLUMN(key_row, hash),
	STORE_COLUMN(key_row, alias),
	STORE_COLUMN(key_row, team_id),
	STORE_COLUMN(key_row, uid),
	STORE_COLUMN(key_row, request_id),
	STORE_COLUMN(key_row, term),
	STORE_COLUMN(key_row, created_at_ms),
	STORE_COLUMN(key_row, expires_at_ms),
	STORE_COLUMN(key_row, changed_at_ms),
	STORE_COLUMN(key_row, delete_at_ms),
	STORE_COLUMN(key_row, dead),
	STORE_COLUMN(key_row, settings),
	STORE_COLUMN(key_row, at_once),
};

static const struct store_column store_lease_columns[] = {
	STORE_COLUMN(lease_row, id),
	STORE_COLUMN(lease_row, key_id),
	STORE_COLUMN(lease_row, profile),
	STORE_COLUMN(lease_row, rule),
	STORE_COLUMN_ENUM(lease_row, state, store_lease_state_name),
	STORE_COLUMN_ENUM(lease_row, bind, store_lease_bind_name),
	STORE_COLUMN(lease_row, refreshable),
	STORE_COLUMN(lease_row, uid),
	STORE_COLUMN(lease_row, gid),
	STORE_COLUMN(lease_row, pid),
	STORE_COLUMN(lease_row, holder_pid),
	STORE_COLUMN(lease_row, holder_start),
	STORE_COLUMN(lease_row, boot_id),
	STORE_COLUMN(lease_row, request_id),
	STORE_COLUMN(lease_row, term),
	STORE_COLUMN(lease_row, granted_at_ms),
	STORE_COLUMN(lease_row, ends_at_ms),
	STORE_COLUMN(lease_row, ended_at_ms),
	STORE_COLUMN(lease_row, ends_boot_ms),
	STORE_COLUMN(lease_row, pidns),
	STORE_COLUMN(lease_row, listen),
};

static const struct store_column store_audit_columns[] = {
	STORE_COLUMN(audit_row, sequence),   STORE_COLUMN(audit_row, hash),
	STORE_COLUMN(audit_row, wall_ms),    STORE_COLUMN(audit_row, boot_ms),
	STORE_COLUMN(audit_row, term),	     STORE_COLUMN(audit_row, instance),
	STORE_COLUMN(audit_row, event),	     STORE_COLUMN(audit_row, outcome),
	STORE_COLUMN(audit_row, rule),	     STORE_COLUMN(audit_row, profile),
	STORE_COLUMN(audit_row, lease),	     STORE_COLUMN(audit_row, uid),
	STORE_COLUMN(audit_row, gid),	     STORE_COLUMN(audit_row, pid),
	STORE_COLUMN(audit_row, start_time), STORE_COLUMN(audit_row, unit),
	STORE_COLUMN(audit_row, exe),	     STORE_COLUMN(audit_row, key_tag),
	STORE_COLUMN(audit_row, detail),
};

const struct store_table store_table_leader = STORE_TABLE(store_leader_columns);
const struct store_table store_table_instance = STORE_TABLE(store_instance_columns);
const struct store_table store_table_key = STORE_TABLE(store_key_columns);
const struct store_table store_table_lease = STORE_TABLE(store_lease_columns);
const struct store_table store_table_audit = STORE_TABLE(store_audit_columns);

char *store_columns_text(const struct store_table *table)
{
	char *text = xstrdup(table->columns[0].name);

	for (size_t i = 1; i < table->n_columns; i++) {
		char *longer = xasprintf("%s, %s", text, table->columns[i].name);

		free(text);
		text = longer;
	}
	return text;
}

static int64_t store_column_int(const struct store_column *c, const void *member)
{
	int64_t v64 = 0;
	uint32_t u32 = 0;
	int32_t i32 = 0;

	if (c->type == STORE_INT64)
		return memcpy(&v64, member, sizeof(v64)), v64;
	if (c->type == STORE_BOOL)
		return *(const bool *)member;
	if (c->type == STORE_INT32)
		return memcpy(&i32, member, sizeof(i32)), i32;
	return memcpy(&u32, member, sizeof(u32)), u32;
}

static int store_column_bind(const struct store_column *c, sqlite3_stmt *stmt, int index,
			     const void *member)
{
	const char *text = member;

	switch (c->type) {
	case STORE_ENUM:
		text = c->enum_name((unsigned)store_column_int(c, member));
		assert(text);
		return sqlite3_bind_text(stmt, index, text, -1, SQLITE_STATIC);
	case STORE_TEXT:
		return sqlite3_bind_text(stmt, index, text, (int)strnlen(text, c->size - 1),
					 SQLITE_STATIC);
	case STORE_BYTES:
		return sqlite3_bind_blob(stmt, index, member, (int)c->size, SQLITE_STATIC);
	case STORE_INT64:
	case STORE_UINT32:
	case STORE_INT32:
	case STORE_BOOL:
		return sqlite3_bind_int64(stmt, index, store_column_int(c, member));
	}
	return SQLITE_MISUSE;
}

int store_columns_bind(const struct store_table *table, sqlite3_stmt *stmt, const void *row)
{
	int rc = SQLITE_OK;

	for (size_t i = 0; i < table->n_columns && rc == SQLITE_OK; i++)
		rc = store_column_bind(&table->columns[i], stmt, (int)i + 1,
				       (const char *)row + table->columns[i].offset);
	return rc;
}

static int store_column_read_enum(const struct store_column *c, const char *text, void *member)
{
	const char *name;

	for (unsigned v = 0; (name = c->enum_name(v)); v++) {
		if (strcmp(name, text) == 0) {
			memcpy(member, &v, sizeof(v));
			return 0;
		}
	}
	return -EBADMSG;
}

static int store_column_read_int(const struct store_column *c, int64_t v, void *member)
{
	uint32_t u32 = (uint32_t)v;
	int32_t i32 = (int32_t)v;

	if (c->type == STORE_INT64)
		memcpy(member, &v, sizeof(v));
	else if (c->type == STORE_BOOL)
		*(bool *)member = v != 0;
	else if (c->type == STORE_INT32 && i32 == v)
		memcpy(member, &i32, sizeof(i32));
	else if (c->type == STORE_UINT32 && u32 == v)
		memcpy(member, &u32, sizeof(u32));
	else
		return -EBADMSG;
	return 0;
}

/* `bytes` is what SQLite holds for the column: of text and blobs, and never longer than `n`. */
static int store_column_read(const struct store_column *c, sqlite3_stmt *stmt, int index,
			     void *member)
{
	const void *bytes = NULL;
	size_t n;

	if (c->type != STORE_TEXT && c->type != STORE_BYTES && c->type != STORE_ENUM)
		return store_column_read_int(c, sqlite3_column_int64(stmt, index), member);
	if (c->type == STORE_BYTES)
		bytes = sqlite3_column_blob(stmt, index);
	else
		bytes = sqlite3_column_text(stmt, index);
	n = (size_t)sqlite3_column_bytes(stmt, index);
	if (!bytes)
		return -EBADMSG;
	if (c->type == STORE_ENUM)
		return store_column_read_enum(c, bytes, member);
	if (c->type == STORE_BYTES ? n != c->size : n >= c->size)
		return -EBADMSG;
	memcpy(member, bytes, n);
	if (c->type == STORE_TEXT)
		((char *)member)[n] = '\0';
	return 0;
}

int store_columns_read(const struct store_table *table, sqlite3_stmt *stmt, void *row)
{
	for (size_t i = 0; i < table->n_columns; i++) {
		const struct store_column *c = &table->columns[i];

		if (store_column_read(c, stmt, (int)i, (char *)row + c->offset) < 0) {
			log_error("the state has a row with an impossible value of %s", c->name);
			return err_origin(-EBADMSG);
		}
	}
	return 0;
}
