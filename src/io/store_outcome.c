/* What the store's outcomes mean, in words. */
#include "io/store.h"

#include <errno.h>

static const char *const store_outcome_texts[] = {
	[STORE_OK] = "done",
	[STORE_E_BUSY] = "another process holds the lock of the state",
	[STORE_E_FULL] = "no room on the file system of the state",
	[STORE_E_READONLY] = "the state is read-only",
	[STORE_E_FENCED] = "another broker leads now",
	[STORE_E_MOVED] = "a file of the state (state.db, -wal, -shm) was removed or replaced",
	[STORE_E_NEWER] = "the state was written by a newer version",
	[STORE_E_SEAL] = "the state was sealed with another seal key",
	[STORE_E_LED] = "another broker leads",
	[STORE_E_CORRUPT] = "the state is damaged",
	[STORE_E_ACCESS] = "the state's directory or file is not safe to use",
	[STORE_E_BROKEN] = "the audit is not as it was written: see `keybroker audit verify`",
};

const char *store_outcome_text(enum store_outcome outcome)
{
	return store_outcome_texts[outcome];
}

bool store_outcome_is_final(int outcome)
{
	return outcome == -EIO || outcome == STORE_E_FENCED || outcome == STORE_E_MOVED;
}
