/* `keybroker get`: a key for scripts, for a time. stdout carries the key and what was asked with
 * it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "cli/command.h"
#include "cli/json_out.h"
#include "cli/patience.h"
#include "cli/text.h"
#include "cli/when.h"

enum { GET_SLACK_MS = 500 }; /* clocks may be set while we wait */

static void get_print_key(const struct keybroker_lease *l)
{
	puts(keybroker_lease_api_key(l));
}

static void get_print_env(const struct keybroker_lease *l)
{
	_cleanup_(freep) char *url = text_shell_word(keybroker_lease_base_url(l));
	char *key = text_shell_word(keybroker_lease_api_key(l));

	printf("OPENAI_API_KEY=%s\nOPENAI_BASE_URL=%s\n", key, url);
	explicit_bzero(key, strlen(key));
	free(key);
}

static void get_print_json(const struct keybroker_lease *l)
{
	json_out_line(keybroker_lease_result(l));
}

static const struct get_format {
	const char *name;
	void (*print)(const struct keybroker_lease *l);
} get_formats[] = { { "key", get_print_key },
		    { "env", get_print_env },
		    { "json", get_print_json } };

static const struct get_format *get_find_format(const struct cli *c)
{
	const char *name = c->options.json ? "json" : "key";

	if (c->options.format)
		name = c->options.format;
	for (size_t i = 0; i < ARRAY_SIZE(get_formats); i++)
		if (strcmp(get_formats[i].name, name) == 0)
			return &get_formats[i];
	return NULL;
}

/* For a person who looks on; a script that joins stdout and stderr gets the key alone. */
static void get_tell(const struct cli *c, const struct keybroker_lease *l)
{
	int64_t ends = keybroker_lease_ends_at_ms(l);
	char when[WHEN_SIZE] = "without an end";

	if (!isatty(STDOUT_FILENO))
		return;
	if (ends > 0)
		when_both(ends, cli_now_ms(), when);
	cli_notice(c, "profile %s, lease %s, ends %s", keybroker_lease_profile(l),
		   keybroker_lease_id(l), when);
}

/* The broker caps what is asked for; nobody should find out when the key stops working. */
static void get_tell_cap(const struct cli *c, const struct keybroker_lease *l, int64_t asked_at_ms)
{
	int64_t ends = keybroker_lease_ends_at_ms(l);
	char when[WHEN_SIZE];

	if (c->options.ttl_ms < 0 || ends == 0 ||
	    ends - asked_at_ms >= c->options.ttl_ms - GET_SLACK_MS)
		return;
	when_both(ends, cli_now_ms(), when);
	cli_notice(c, "the lease ends earlier than asked for: %s", when);
}

int command_get(struct cli *c)
{
	const struct get_format *format = get_find_format(c);
	const struct keybroker_request request = {
		.profile = c->options.profile,
		.bind = KEYBROKER_BIND_TTL,
		.fixed = true, /* a printed key is out of the broker's reach */
		.ttl_ms = c->options.ttl_ms,
		.min_valid_ms = c->options.min_valid_ms,
	};
	_cleanup_(keybroker_closep) struct keybroker *k = NULL;
	_cleanup_(keybroker_lease_freep) struct keybroker_lease *l = NULL;
	struct keybroker_error e;

	if (!format)
		return cli_usage(c, "--format: \"%s\" is none of key, env, json",
				 c->options.format);
	int64_t now = cli_now_ms();
	int r = cli_connect(c, false, &k);
	if (r != CLI_OK)
		return r;
	patience_begin(c);
	enum keybroker_code code = keybroker_acquire(k, &request, &l, &e);
	patience_end();
	if (code != KEYBROKER_OK)
		return cli_report(c, &e);
	format->print(l);
	if (fflush(stdout) != 0) { /* nobody has it; cli_main() says why */
		int why = errno;

		(void)keybroker_release(k, keybroker_lease_id(l), NULL);
		errno = why;
		return CLI_IO;
	}
	get_tell(c, l);
	get_tell_cap(c, l, now);
	return CLI_OK;
}
