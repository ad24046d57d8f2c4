/*
 * Fuzzes the judge of LiteLLM's answers, the reader of its times and the redaction: byte 0 is the
 * operation, byte 1 the status, the rest the body. Whatever it says, no message holds a key or a
 * hash, and good news comes with 2xx alone.
 */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "core/litellm_parts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void fuzz_check(bool good)
{
	if (!good)
		abort();
}

/* No run of 64 hex digits, and nothing behind an "sk-" that begins a word. */
static void fuzz_check_clean(const char *text)
{
	size_t run = 0;

	for (const char *p = text; *p; p++) {
		run = strchr("0123456789abcdefABCDEF", *p) ? run + 1 : 0;
		fuzz_check(run < 64);
		if (strncmp(p, "sk-", 3) == 0 && (p == text || strchr(" \"'`=,:", p[-1])))
			fuzz_check(!p[3] || !strchr("0123456789abcdefghijklmnopqrstuvwxyz"
						    "ABCDEFGHIJKLMNOPQRSTUVWXYZ-_",
						    p[3]));
	}
}

static void fuzz_judge(enum litellm_op op, long status, const char *body, size_t n)
{
	struct litellm_answer a;

	litellm_judge(op, &(struct litellm_reply){ status, body, n }, "agents", "sk-ma\"ster\\key",
		      &a);
	fuzz_check(memchr(a.message, '\0', sizeof(a.message)) != NULL);
	fuzz_check((a.kind == LITELLM_OK) == (*a.message == '\0'));
	fuzz_check(a.kind != LITELLM_OK || (status >= 200 && status < 300));
	fuzz_check(a.kind == LITELLM_OK || (!a.chosen && a.n_keys == 0));
	for (size_t i = 0; i < a.n_teams; i++)
		fuzz_check(op != LITELLM_TEAM_FIND || strcmp(a.teams[i].alias, "agents") == 0);
	fuzz_check_clean(a.message);
	litellm_answer_deinit(&a);
}

static void fuzz_text(const char *body, size_t n)
{
	char *text = malloc(n + 1);
	int64_t ms = -1;

	fuzz_check(text != NULL);
	memcpy(text, body, n);
	text[n] = '\0';
	fuzz_check(litellm_parse_time(text, &ms) == 0 || ms == -1);
	n = strlen(text);
	litellm_redact(text);
	fuzz_check(strlen(text) <= n);
	fuzz_check_clean(text);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const long statuses[] = { 0,   200, 204, 307, 400, 401, 403,
					 404, 408, 422, 429, 500, 503 };
	static bool started;
	const char *body = (const char *)data + 2;

	if (!started)
		json_init();
	started = true;
	if (n < 2)
		return 0;
	fuzz_judge((enum litellm_op)(data[0] % (LITELLM_TEAM_UPDATE + 1)),
		   statuses[data[1] % ARRAY_SIZE(statuses)], body, n - 2);
	fuzz_text(body, n - 2);
	return 0;
}
