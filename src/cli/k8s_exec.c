/* The fields are those of the Kubernetes reference, "Client Authentication (v1)" and "(v1beta1)",
 * which agree in all that is used here. */
#include "cli/k8s_exec.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/json.h"
#include "cli/cli.h"
#include "cli/text.h"

enum { K8S_EXEC_MARGIN_MS = 60000 };

static const char *const k8s_exec_versions[] = { "client.authentication.k8s.io/v1",
						 "client.authentication.k8s.io/v1beta1" };

const char *k8s_exec_version(const char *info, char *ret_why, size_t size)
{
	_cleanup_(json_freep) struct json *doc = NULL;
	const char *wanted;

	if (!info || !*info)
		return k8s_exec_versions[0];
	json_init();
	doc = json_parse(info, strlen(info));
	wanted = json_get_text(doc, "apiVersion");
	for (size_t i = 0; wanted && i < ARRAY_SIZE(k8s_exec_versions); i++)
		if (strcmp(wanted, k8s_exec_versions[i]) == 0)
			return k8s_exec_versions[i];
	if (wanted)
		(void)snprintf(ret_why, size, "asks for the apiVersion \"%s\"", wanted);
	else
		(void)snprintf(ret_why, size, "is no JSON object with an apiVersion");
	return NULL;
}

int64_t k8s_exec_until_ms(int64_t now_ms, int64_t expires_at_ms, int64_t ends_at_ms)
{
	int64_t end = expires_at_ms;

	if (end == 0 || (ends_at_ms > 0 && ends_at_ms < end))
		end = ends_at_ms;
	return end > now_ms ? end - MIN_OF((end - now_ms) / 10, K8S_EXEC_MARGIN_MS) : end;
}

void k8s_exec_print(const char *version, const struct keybroker_lease *l)
{
	time_t until = k8s_exec_until_ms(cli_now_ms(), keybroker_lease_expires_at_ms(l),
					 keybroker_lease_ends_at_ms(l)) /
		       1000;
	char text[32];
	struct tm tm;

	printf("{\"kind\":\"ExecCredential\",\"apiVersion\":\"%s\",\"status\":{", version);
	if (until > 0 && gmtime_r(&until, &tm) &&
	    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm) > 0)
		printf("\"expirationTimestamp\":\"%s\",", text);
	printf("\"token\":");
	text_print_json(stdout, keybroker_lease_api_key(l));
	puts("}}");
}
