/* Exports the audit's head, once it is on the disk. */
#include "daemon/head.h"

#include "base/log.h"
#include "daemon/daemon.h"
#include "io/store.h"
#include "io/store_rows.h"

void head_say(struct daemon *d)
{
	char hash[2 * HASH_SIZE + 1];
	uint8_t head[HASH_SIZE];
	uint64_t sequence;

	store_audit_head(d->store, &sequence, head);
	if (sequence == d->head_logged)
		return;
	d->head_logged = sequence;
	crypt_hex(head, HASH_SIZE, hash);
	log_notice("audit head %llu:%s", (unsigned long long)sequence, hash);
}

int head_log(struct daemon *d)
{
	int r = store_sync(d->store);

	if (r == 0)
		head_say(d);
	return r;
}
