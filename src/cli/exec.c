/*
 * `keybroker exec`: takes a fixed lease for this very process and becomes the command, so that the
 * lease, signals and exit code are the command's own. Changes no signal and leaves no descriptor.
 * What is to follow rotations is in supervise.c.
 */
#include "cli/exec.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/env.h"
#include "base/host.h"
#include "base/macros.h"
#include "cli/command.h"
#include "cli/patience.h"
#include "cli/supervise.h"

static bool exec_is_openai(const char *url)
{
	static const char domain[] = ".api.openai.com";
	struct url_server server;

	if (!url_server(url, &server))
		return false;
	size_t n = strlen(server.host), suffix = sizeof(domain) - 1;
	return strcmp(server.host, domain + 1) == 0 ||
	       (n > suffix && strcmp(server.host + n - suffix, domain) == 0);
}

/* Plain http to the broker's own host is what the broker's administrator chose. */
static bool exec_is_clear(const struct url_server *own, const char *brokers)
{
	struct url_server theirs;

	if (own->https || host_is_loopback(own->host))
		return false;
	return !url_server(brokers, &theirs) || theirs.https || strcmp(own->host, theirs.host) != 0;
}

enum exec_base exec_judge_base(const char *own, const char *brokers, const char *mode)
{
	struct url_server server;

	if (!own || !*own)
		return EXEC_BASE_BROKERS;
	if (!url_server(own, &server))
		return EXEC_BASE_NO_URL;
	if (exec_is_openai(own) && strcmp(mode, "static") != 0)
		return EXEC_BASE_OPENAI;
	if (exec_is_clear(&server, brokers))
		return EXEC_BASE_CLEAR;
	return url_same_server(own, brokers) ? EXEC_BASE_SAME : EXEC_BASE_OTHER;
}

void exec_name_server(const char *url, char ret[URL_HOST_SIZE + 16])
{
	struct url_server server;

	if (url_server(url, &server))
		(void)snprintf(ret, URL_HOST_SIZE + 16, "%s:%u", server.host, server.port);
	else
		(void)snprintf(ret, URL_HOST_SIZE + 16, "something that is no http URL");
}

void exec_take_out_master(char *ret, size_t size)
{
	static const char *const names[] = { "LITELLM_MASTER_KEY", "LITELLM_MASTER_KEY_FILE",
					     "LITELLM_SALT_KEY" };
	size_t n = 0;

	*ret = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (!env_scrub(names[i]))
			continue;
		n += (size_t)snprintf(ret + n, size - n, "%s%s", n ? ", " : "", names[i]);
	}
}

static bool exec_is_set(const char *name)
{
	const char *value = getenv(name);

	return value && *value;
}

/* As the daemon reads it. */
static bool exec_may_be_clear(void)
{
	static const char *const words[] = { "1", "yes", "true", "on" };
	const char *value = getenv("KEYBROKER_INSECURE_HTTP");

	for (size_t i = 0; value && i < ARRAY_SIZE(words); i++)
		if (strcasecmp(value, words[i]) == 0)
			return true;
	return false;
}

int exec_set_base(const struct cli *c, const struct keybroker_lease *l)
{
	const char *own = getenv("OPENAI_BASE_URL"), *brokers = keybroker_lease_base_url(l);
	char own_server[URL_HOST_SIZE + 16], broker_server[URL_HOST_SIZE + 16];
	enum exec_base base;

	exec_name_server(own ? own : "", own_server);
	exec_name_server(brokers, broker_server);
	base = exec_judge_base(own, brokers, keybroker_lease_mode(l));
	if (base == EXEC_BASE_CLEAR && exec_may_be_clear())
		base = EXEC_BASE_OTHER;
	switch (base) {
	case EXEC_BASE_SAME:
		return CLI_OK;
	case EXEC_BASE_BROKERS:
		return setenv("OPENAI_BASE_URL", brokers, 1) < 0 ? CLI_OS : CLI_OK;
	case EXEC_BASE_OTHER:
		cli_warning("OPENAI_BASE_URL stays as it is and names %s; the broker's key "
			    "is for %s",
			    own_server, broker_server);
		return CLI_OK;
	case EXEC_BASE_OPENAI:
		return cli_fail(
			c, CLI_CONFIG,
			"OPENAI_BASE_URL names %s, where a LiteLLM key cannot work: unset it, "
			"and %s is used",
			own_server, broker_server);
	case EXEC_BASE_NO_URL:
		return cli_fail(c, CLI_CONFIG,
				"OPENAI_BASE_URL is no http or https URL: unset it, and %s is used",
				broker_server);
	case EXEC_BASE_CLEAR:
		return cli_fail(
			c, CLI_CONFIG,
			"OPENAI_BASE_URL names %s, and plain http would carry the key there in "
			"clear: unset it, and %s is used; use https; or, if that network is "
			"private, set KEYBROKER_INSECURE_HTTP=1",
			own_server, broker_server);
	}
	return CLI_SOFTWARE;
}

static int exec_set_key(const struct cli *c, const struct keybroker_lease *l)
{
	int r = exec_set_base(c, l);

	if (r != CLI_OK)
		return r;
	if (exec_is_set("OPENAI_API_KEY"))
		cli_notice(c,
			   "OPENAI_API_KEY was set; %s gets the broker's key instead "
			   "(--keep-env keeps yours)",
			   c->operands[0]);
	return setenv("OPENAI_API_KEY", keybroker_lease_api_key(l), 1) < 0 ? CLI_OS : CLI_OK;
}

static int exec_take_lease(const struct cli *c)
{
	const struct keybroker_request request = {
		.profile = c->options.profile,
		.bind = KEYBROKER_BIND_PROCESS,
		.fixed = true, /* nobody can change the environment of a running program */
		.min_valid_ms = c->options.min_valid_ms,
	};
	_cleanup_(keybroker_closep) struct keybroker *k = NULL;
	_cleanup_(keybroker_lease_freep) struct keybroker_lease *l = NULL;
	struct keybroker_error e;
	int r = cli_connect(c, false, &k);

	if (r != CLI_OK)
		return r;
	patience_begin(c);
	enum keybroker_code code = keybroker_acquire(k, &request, &l, &e);
	patience_end();
	if (code != KEYBROKER_OK)
		return cli_report(c, &e);
	r = exec_set_key(c, l);
	if (r != CLI_OK)
		(void)keybroker_release(k, keybroker_lease_id(l), NULL); /* ends with us anyway */
	return r;
}

int command_exec(struct cli *c)
{
	char taken_out[128];
	int r = CLI_OK;

	if (c->n_operands == 0)
		return cli_usage(c, "there is no program to run");
	exec_take_out_master(taken_out, sizeof(taken_out));
	if (*taken_out)
		cli_notice(c, "%s: not passed on to %s", taken_out, c->operands[0]);
	if (c->options.restart_on_rotate || c->options.key_file || c->options.watch_signal)
		return supervise(c);
	if (c->options.keep_env && exec_is_set("OPENAI_API_KEY"))
		cli_notice(c, "OPENAI_API_KEY is kept as it is; no key is taken from the broker");
	else
		r = exec_take_lease(c);
	if (r != CLI_OK)
		return r;
	(void)execvp(c->operands[0], c->operands);
	r = errno;
	return cli_fail(c, r == ENOENT ? CLI_NOT_FOUND : CLI_CANNOT_RUN, "%s cannot be run: %s",
			c->operands[0], strerror(r));
}
