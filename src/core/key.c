/* Names and the state machine of keys. */
#include "core/key.h"

static const char *const key_state_names[] = {
	[KEY_INTENT] = "intent", [KEY_LIVE] = "live",	    [KEY_RETIRING] = "retiring",
	[KEY_BURNED] = "burned", [KEY_DELETED] = "deleted",
};

static const char *const key_source_names[] = {
	[KEY_MINTED] = "minted",
	[KEY_SERVER_CHOSEN] = "server_chosen",
	[KEY_IMPORTED] = "imported",
	[KEY_LEGACY] = "legacy",
};

/* One row per state: the set of states that may follow it. */
static const unsigned key_next[KEY_N_STATES] = {
	/* deleted at once only when upstream refused it: then it never was there */
	[KEY_INTENT] = 1U << KEY_LIVE | 1U << KEY_RETIRING | 1U << KEY_BURNED | 1U << KEY_DELETED,
	[KEY_LIVE] = 1U << KEY_RETIRING | 1U << KEY_DELETED,
	[KEY_RETIRING] =
		1U << KEY_LIVE | 1U << KEY_DELETED, /* back: the mint of its successor failed */
	[KEY_BURNED] = 1U << KEY_DELETED,
	[KEY_DELETED] = 0,
};

bool key_row_is_pooled(const struct key_row *row)
{
	return row->mode == PROFILE_DEDICATED && row->uid < 0 &&
	       (row->source == KEY_MINTED || row->source == KEY_SERVER_CHOSEN);
}

const char *key_state_name(enum key_state state)
{
	return key_state_names[state];
}

const char *key_source_name(enum key_source source)
{
	return key_source_names[source];
}

bool key_may_change(enum key_state from, enum key_state to)
{
	return from == to || (key_next[from] & 1U << to) != 0;
}
