/* What a team upstream has, compared with what the configuration says. */
#include "core/litellm_team.h"

#include <stdio.h>
#include <string.h>

#include "base/crypt.h"
#include "base/utf8.h"

void litellm_team_id(const char *team_alias, char ret[TEAM_ID_MAX])
{
	char hash[SHA256_HEX_SIZE];

	crypt_sha256_hex(team_alias, strlen(team_alias), hash);
	(void)snprintf(ret, TEAM_ID_MAX, "keybroker-%.32s", hash);
}

/* An upstream may say anything: what has no place in an integer is its end. */
int64_t litellm_micros(double dollars)
{
	double micros = dollars * 1e6 + (dollars < 0 ? -0.5 : 0.5);

	if (!(micros < 9e18))
		return INT64_MAX;
	return micros > -9e18 ? (int64_t)micros : INT64_MIN;
}

/* Adds one difference to a text: "none" for what upstream does not have. */
static void litellm_team_say(char *ret, size_t size, const char *name, const char *is,
			     const char *wanted)
{
	size_t n = strlen(ret);

	(void)snprintf(ret + n, size - n, "%s%s is %s, not %s", n ? "; " : "", name, is, wanted);
}

static void litellm_team_say_count(char *ret, size_t size, const char *name, int64_t is,
				   int64_t wanted)
{
	char has[24], should[24];

	if (wanted < 0 || is == wanted)
		return;
	(void)snprintf(has, sizeof(has), "%lld", (long long)is);
	(void)snprintf(should, sizeof(should), "%lld", (long long)wanted);
	litellm_team_say(ret, size, name, is < 0 ? "none" : has, should);
}

bool litellm_team_differs(const struct litellm_team *team, const struct key_limits *wanted,
			  char *ret, size_t size)
{
	char has[32], should[32];

	ret[0] = '\0';
	if (wanted->max_budget >= 0 &&
	    litellm_micros(team->max_budget) != litellm_micros(wanted->max_budget)) {
		(void)snprintf(has, sizeof(has), "%.9g", team->max_budget);
		(void)snprintf(should, sizeof(should), "%.9g", wanted->max_budget);
		litellm_team_say(ret, size, "max_budget", team->max_budget < 0 ? "none" : has,
				 should);
	}
	if (wanted->budget_duration && strcmp(team->budget_duration, wanted->budget_duration) != 0)
		litellm_team_say(ret, size, "budget_duration",
				 *team->budget_duration ? team->budget_duration : "none",
				 wanted->budget_duration);
	litellm_team_say_count(ret, size, "rpm_limit", team->rpm_limit, wanted->rpm_limit);
	litellm_team_say_count(ret, size, "tpm_limit", team->tpm_limit, wanted->tpm_limit);
	utf8_clean(ret); /* upstream's words may be cut within a character */
	return ret[0] != '\0';
}
