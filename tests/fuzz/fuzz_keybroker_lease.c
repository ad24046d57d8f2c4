/* What a server answers to an acquire, from its bytes to all that a caller can ask of the lease. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "clients/c/call.h"
#include "clients/c/wire.h"
#include "proto/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void fuzz_lease(struct message *reply)
{
	struct keybroker_lease *l = NULL;
	struct keybroker_error e;
	char text[64];

	if (keybroker_lease_new(&l, reply, &e) != KEYBROKER_OK) {
		assert(e.code == KEYBROKER_GARBAGE && e.message[0] && e.advice[0]);
		return;
	}
	assert(*keybroker_lease_id(l) && *keybroker_lease_api_key(l) &&
	       *keybroker_lease_base_url(l));
	assert(!strpbrk(keybroker_lease_api_key(l), " \r\n"));
	for (size_t i = 0; i <= keybroker_lease_n_models(l); i++)
		assert(keybroker_lease_model(l, i));
	(void)(keybroker_lease_profile(l) && keybroker_lease_mode(l) &&
	       keybroker_lease_key_hash(l));
	(void)(keybroker_lease_generation(l) + keybroker_lease_expires_at_ms(l) / 8 +
	       keybroker_lease_refresh_at_ms(l) / 8 + keybroker_lease_ends_at_ms(l) / 8 +
	       keybroker_lease_ttl_ms(l) / 8 % 8);
	assert(keybroker_lease_describe(l, text, sizeof(text)) > 0);
	keybroker_lease_free(l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct wire w = WIRE_INIT;
	struct message *m = NULL;

	if (n > UINT16_MAX || buf_append(&w.in, data, n) < 0)
		return 0;
	while (wire_take(&w, &m) == 0) {
		if (message_type(m) == MESSAGE_REPLY && message_result(m))
			fuzz_lease(m);
		else
			message_free(m);
	}
	wire_close(&w, false);
	return 0;
}
