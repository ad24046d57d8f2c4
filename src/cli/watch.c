/* `keybroker watch`: what becomes of this user's leases, as it happens. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "cli/command.h"
#include "cli/field.h"
#include "cli/json_out.h"
#include "cli/text.h"
#include "cli/when.h"
#include "proto/message.h"

static void watch_print_line(const char *event, const struct value *v)
{
	char now[WHEN_SIZE], ends[WHEN_SIZE];
	int64_t generation, at;
	char more[2 * WHEN_SIZE] = "";

	when_local(cli_now_ms(), now);
	if (value_int(value_get(v, "generation"), &generation))
		(void)snprintf(more, sizeof(more), "generation %" PRId64, generation);
	if (value_int(value_get(v, "ends_at_ms"), &at)) {
		when_local(at, ends);
		(void)snprintf(more, sizeof(more), "ends %s", ends);
	}
	if (value_int(value_get(v, "term"), &at))
		(void)snprintf(more, sizeof(more), "instance %.63s, term %" PRId64,
			       field_text(v, "instance"), at);
	const char *lease = field_text(v, "lease"), *profile = field_text(v, "profile");
	_cleanup_(freep) char *line =
		xasprintf("%s  %-14s%s%s%s%s%s%s", now, event, *lease ? "  " : "", lease,
			  *profile ? "  " : "", profile, *more ? "  " : "", more);
	_cleanup_(freep) char *clean = text_clean(line);
	puts(clean);
}

static void watch_print_json(const char *event, const struct value *v)
{
	(void)fputs("{\"event\":", stdout); /* errors show when the stream is flushed */
	text_print_json(stdout, event);
	for (size_t i = 0; i < value_len(v); i++) {
		const char *key = value_text(value_key_at(v, i));

		putchar(',');
		text_print_json(stdout, key ? key : "");
		putchar(':');
		json_out(stdout, value_value_at(v, i));
	}
	puts("}");
}

/* False: stdout cannot be written any more. */
static bool watch_print(const struct cli *c, const struct message *m)
{
	if (c->options.json)
		watch_print_json(message_method(m), message_params(m));
	else
		watch_print_line(message_method(m), message_params(m));
	return fflush(stdout) == 0; /* somebody is waiting for this line */
}

static enum keybroker_code watch_listen(const struct cli *c, struct keybroker *k,
					struct keybroker_error *e)
{
	for (;;) {
		_cleanup_(message_freep) struct message *m = NULL;
		enum keybroker_code code = keybroker_next(k, -1, &m, e);

		if (code != KEYBROKER_OK || !watch_print(c, m))
			return code;
	}
}

static void watch_on_interrupt(_unused_ int number)
{
	_exit(130);
}

int command_watch(struct cli *c)
{
	const struct call_param params[] = { CALL_PARAM_TEXT("scope", "uid") };
	const struct call call = { "watch", params, ARRAY_SIZE(params), false, false };
	_cleanup_(keybroker_closep) struct keybroker *k = NULL;
	struct keybroker_error e;
	int r = cli_connect(c, false, &k);

	if (r != CLI_OK)
		return r;
	(void)signal(SIGINT, watch_on_interrupt); /* each line is out: nothing is lost */
	for (;;) {
		_cleanup_(message_freep) struct message *m = NULL;
		enum keybroker_code code = keybroker_call(k, &call, &m, &e);

		if (code == KEYBROKER_OK)
			code = watch_listen(c, k, &e);
		if (code == KEYBROKER_OK)
			return CLI_OK; /* cli_main() says what is wrong with stdout */
		if (code != KEYBROKER_LOST)
			return cli_report(c, &e);
		cli_notice(c, "%s; going on as soon as a broker is there", e.message);
	}
}
