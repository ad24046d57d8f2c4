/* Back-off and breaker. Decides only: whoever calls owns the timers and draws the random bits. */
#include "core/retry.h"

#include "base/macros.h"

int64_t retry_pause_ms(const struct timing *t, int64_t attempts, int64_t retry_after_ms,
		       uint32_t random)
{
	int64_t most = t->retry_after_max_ms;
	int64_t pause = MIN_OF(t->retry_base_ms, most);

	/* Stops at the longest pause, so no number of attempts can overflow. */
	for (int64_t i = 1; i < attempts && pause > 0 && pause < most; i++)
		pause = pause > most / 2 ? most : pause * 2;
	pause = pause - pause / 2 + random % (pause / 2 + 1);
	return MIN_OF(MAX_OF(pause, retry_after_ms), most);
}

enum breaker_verdict breaker_ask(struct breaker *b, int64_t now_ms)
{
	if (!b->open)
		return BREAKER_PASS;
	if (b->probing || now_ms < b->until_ms)
		return BREAKER_REFUSE;
	b->probing = true;
	return BREAKER_PROBE;
}

void breaker_failed(struct breaker *b, int64_t now_ms, int64_t pause_ms)
{
	*b = (struct breaker){ .open = true, .until_ms = now_ms + pause_ms };
}

void breaker_answered(struct breaker *b)
{
	*b = (struct breaker){ 0 };
}

void breaker_abandoned(struct breaker *b)
{
	b->probing = false;
}

int64_t breaker_remaining_ms(const struct breaker *b, int64_t now_ms)
{
	return b->open && b->until_ms > now_ms ? b->until_ms - now_ms : 0;
}
