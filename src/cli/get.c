/* `keybroker get`: a key for scripts, for a time. stdout carries the key and what was asked with
 * it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "cli/command.h"
#include "cli/json_out.h"
#include "cli/k8s_exec.h"
#include "cli/patience.h"
#include "cli/text.h"
#include "cli/when.h"

enum { GET_TTL_MS = 15 * 60 * 1000 }; /* the broker's default, as the protocol has it */

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

static const char *get_k8s_version(char *ret_why, size_t size)
{
	return k8s_exec_version(getenv("KUBERNETES_EXEC_INFO"), ret_why, size);
}

static void get_print_k8s(const struct keybroker_lease *l)
{
	char why[256];

	k8s_exec_print(get_k8s_version(why, sizeof(why)), l);
}

/* Before a key is taken that nobody could use. */
static int get_check_k8s(const struct cli *c)
{
	char why[256];

	if (get_k8s_version(why, sizeof(why)))
		return CLI_OK;
	return cli_fail(c, CLI_CONFIG,
			"KUBERNETES_EXEC_INFO %s; known are client.authentication.k8s.io/v1 and "
			"/v1beta1: set apiVersion in the kubeconfig's exec section",
			why);
}

static const struct get_format {
	const char *name;
	void (*print)(const struct keybroker_lease *l);
	int (*check)(const struct cli *c); /* may be NULL */
} get_formats[] = { { "key", get_print_key, NULL },
		    { "env", get_print_env, NULL },
		    { "json", get_print_json, NULL },
		    { "k8s-exec", get_print_k8s, get_check_k8s } };

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
	char when[WHEN_SIZE] = "with the process that it is for";

	if (!isatty(STDOUT_FILENO))
		return;
	if (ends > 0)
		when_both(ends, cli_now_ms(), when);
	cli_notice(c, "profile %s, lease %s, ends %s", keybroker_lease_profile(l),
		   keybroker_lease_id(l), when);
}

/* The broker caps what is asked for; nobody should find out when the key stops working. */
static void get_tell_cap(const struct cli *c, const struct keybroker_lease *l)
{
	bool asked = c->options.ttl_ms >= 0;
	int64_t ttl = keybroker_lease_ttl_ms(l);
	char when[WHEN_SIZE];

	if (ttl == 0 || ttl >= (asked ? c->options.ttl_ms : GET_TTL_MS))
		return;
	when_both(keybroker_lease_ends_at_ms(l), cli_now_ms(), when);
	cli_notice(c, "the lease ends earlier than %s: %s",
		   asked ? "asked for" : "the default of 15 minutes", when);
}

static int get_open(const struct cli *c, pid_t pid, int *ret)
{
	int fd = pidfd_open(pid, 0);

	if (fd < 0 && errno == ESRCH)
		return cli_fail(c, CLI_DATA, "there is no process %d", (int)pid);
	if (fd < 0)
		return cli_fail(c, CLI_OS, "process %d: %s", (int)pid, strerror(errno));
	*ret = fd;
	return CLI_OK;
}

/* The process that the key is for; -1: none, it is for a time. */
static int get_whom(const struct cli *c, int *ret)
{
	int64_t pid = c->options.for_pid;
	pid_t parent = getppid();
	int r;

	if (pid < 0 && !c->options.for_parent)
		return CLI_OK;
	if (pid >= 0 && c->options.for_parent)
		return cli_usage(c, "--for-parent and --for-pid don't go together");
	if (c->options.ttl_ms >= 0)
		return cli_usage(c, "--ttl does not go with --for-parent or --for-pid");
	if (pid == 0 || pid > INT32_MAX)
		return cli_usage(c, "--for-pid: %lld is no process id", (long long)pid);
	r = get_open(c, c->options.for_parent ? parent : (pid_t)pid, ret);
	/* who is still our parent is the one that was opened */
	if (r == CLI_OK && c->options.for_parent && getppid() != parent)
		r = cli_fail(c, CLI_DATA, "the parent has ended");
	return r;
}

int command_get(struct cli *c)
{
	const struct get_format *format = get_find_format(c);
	struct keybroker_request request = {
		.profile = c->options.profile,
		.bind = KEYBROKER_BIND_TTL,
		.fixed = true, /* a printed key is out of the broker's reach */
		.ttl_ms = c->options.ttl_ms,
		.min_valid_ms = c->options.min_valid_ms,
	};
	int pidfd = -1;
	_cleanup_(keybroker_closep) struct keybroker *k = NULL;
	_cleanup_(keybroker_lease_freep) struct keybroker_lease *l = NULL;
	struct keybroker_error e;

	if (!format)
		return cli_usage(c, "--format: \"%s\" is none of key, env, json, k8s-exec",
				 c->options.format);
	int r = get_whom(c, &pidfd);
	if (r == CLI_OK && format->check)
		r = format->check(c);
	if (r == CLI_OK)
		r = cli_connect(c, false, &k);
	if (r != CLI_OK)
		return r;
	if (pidfd >= 0) {
		request.for_pid = &pidfd;
		request.bind = KEYBROKER_BIND_PROCESS;
	}
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
	get_tell_cap(c, l);
	return CLI_OK;
}
