/* Keys in the store, with their sealed secrets. A secret leaves only in a struct secret. */
#include <errno.h>
#include <stdio.h>

#include "base/crypt.h"
#include "base/secret.h"
#include "io/store_columns.h"
#include "io/store_internal.h"
#include "io/store_rows.h"

#define STORE_PLACE_MAX (sizeof("key//secret") + ID_SIZE)

/* Binds the sealed value to its row: moved to another one it doesn't open. */
static void store_key_place(const char *key_id, char ret[STORE_PLACE_MAX])
{
	(void)snprintf(ret, STORE_PLACE_MAX, "key/%s/secret", key_id);
}

int store_put_key(struct store *s, const struct key_row *row, const struct secret *secret)
{
	const int secret_index = (int)store_table_key.n_columns + 1;
	uint8_t sealed[SECRET_MAX + SEAL_OVERHEAD];
	char place[STORE_PLACE_MAX];
	sqlite3_stmt *stmt = store_get(&s->turn, STORE_KEY_PUT);
	struct key_row next = *row;
	int rc = SQLITE_OK;

	next.term = s->term;
	if (stmt)
		rc = store_columns_bind(&store_table_key, stmt, &next);
	if (stmt && secret && rc == SQLITE_OK) {
		store_key_place(row->id, place);
		keyring_seal(s->keyring, place, secret, sealed);
		rc = sqlite3_bind_blob(stmt, secret_index, sealed,
				       (int)(secret_len(secret) + SEAL_OVERHEAD), SQLITE_STATIC);
	}
	return store_turn_run(s, stmt, rc);
}

int store_key_secret(struct store *s, const char *key_id, struct secret **ret)
{
	sqlite3_stmt *stmt = store_get_for(&s->turn, STORE_KEY_SECRET, key_id);
	char place[STORE_PLACE_MAX];
	int rc = store_step(&s->turn, stmt);
	int r = rc == SQLITE_DONE ? -ENOENT : store_result(&s->turn, rc, "secret");

	if (r == 0 && sqlite3_column_type(stmt, 0) == SQLITE_NULL)
		r = -ENOENT;
	if (r == 0) {
		store_key_place(key_id, place);
		r = keyring_open(s->keyring, place, sqlite3_column_blob(stmt, 0),
				 (size_t)sqlite3_column_bytes(stmt, 0), ret);
	}
	store_done(stmt);
	return r;
}

int store_each_key(struct store *s, bool all, store_key_fn each, void *userdata)
{
	sqlite3_stmt *stmt = store_get(&s->turn, all ? STORE_KEYS_ALL : STORE_KEYS);
	struct key_row row;
	bool more = true;
	int r = 0;

	while (r == 0) {
		r = store_next(&s->turn, stmt, &store_table_key, &row, &more);
		if (r != 0 || !more)
			break;
		r = each(&row, userdata);
	}
	store_done(stmt);
	return r;
}

int store_key_by_hash(struct store *s, const char *hash, struct key_row *ret)
{
	sqlite3_stmt *stmt = store_get_for(&s->turn, STORE_KEY_BY_HASH, hash);
	struct key_row row;
	bool more;
	int r = store_next(&s->turn, stmt, &store_table_key, &row, &more);

	store_done(stmt);
	if (r == 0 && !more)
		return -ENOENT;
	if (r == 0)
		*ret = row;
	return r;
}

int store_last_generation(struct store *s, const char *profile, uint64_t *ret)
{
	sqlite3_stmt *stmt = store_get_for(&s->turn, STORE_GENERATION, profile);
	int r = store_result(&s->turn, store_step(&s->turn, stmt), "generation");

	if (r == 0)
		*ret = (uint64_t)sqlite3_column_int64(stmt, 0);
	store_done(stmt);
	return r;
}

int store_key_was_leased(struct store *s, const char *key_id, bool *ret)
{
	sqlite3_stmt *stmt = store_get_for(&s->turn, STORE_KEY_LEASED, key_id);
	int r = store_result(&s->turn, store_step(&s->turn, stmt), "leases of a key");

	if (r == 0)
		*ret = sqlite3_column_int(stmt, 0) != 0;
	store_done(stmt);
	return r;
}
