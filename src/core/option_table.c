/* The rows of keybroker.conf. Nothing but the table and its look-up. */
#include "core/option.h"

#include <assert.h>
#include <string.h>

#include "core/config.h"

#define IN_CONFIG(member) offsetof(struct config, member)
#define IN_PROFILE(member) offsetof(struct profile, member)
#define IN_RULE(member) offsetof(struct rule, member)

static const struct option_name option_durabilities[] = {
	{ "power_loss", DURABILITY_POWER_LOSS },
	{ "crash", DURABILITY_CRASH },
	{ NULL, 0 },
};

static const struct option_name option_log_levels[] = {
	{ "error", LOG_LEVEL_ERROR },
	{ "warning", LOG_LEVEL_WARNING },
	{ "info", LOG_LEVEL_INFO },
	{ "debug", LOG_LEVEL_DEBUG },
	{ NULL, 0 },
};

static const struct option_name option_modes[] = {
	{ "shared", PROFILE_SHARED },
	{ "dedicated", PROFILE_DEDICATED },
	{ "static", PROFILE_STATIC },
	{ NULL, 0 },
};

static const struct option option_rows[] = {
	{ "socket", SECTION_TOP, OPTION_PATH, IN_CONFIG(socket_path),
	  .env = { { .variable = "KEYBROKER_SOCKET" } },
	  .example = "\"/run/keybroker/keybroker.sock\"",
	  .help = "The socket of the clients (--socket)." },
	{ "admin_socket", SECTION_TOP, OPTION_PATH, IN_CONFIG(admin_socket_path),
	  .env = { { .variable = "KEYBROKER_ADMIN_SOCKET" } },
	  .example = "\"/run/keybroker/keybroker-admin/admin.sock\"",
	  .help = "The socket of the administrator (--admin-socket); its directory is 0700. Default: "
		  "keybroker-admin/admin.sock beside the clients' socket." },
	{ "state_dir", SECTION_TOP, OPTION_PATH, IN_CONFIG(state_dir),
	  .example = "\"/var/lib/keybroker\"", .help = "The directory of state.db (--state-dir)." },
	{ "durability", SECTION_TOP, OPTION_ENUM, IN_CONFIG(durability), .fallback = "power_loss",
	  .names = option_durabilities,
	  .help = "What a record must outlive before its key is out: power_loss (on the disk) or "
		  "crash (of the broker; on the disk within 100 ms)." },
	{ "audit_warn_size", SECTION_TOP, OPTION_SIZE, IN_CONFIG(audit_warn_size), .fallback = "1G",
	  .help = "Warn when the state, nearly all of it audit, has more: a G holds about five "
		  "million rows. 0: never." },
	{ "log_level", SECTION_TOP, OPTION_ENUM, IN_CONFIG(log_level), .fallback = "info",
	  .names = option_log_levels, .help = "error, warning, info or debug (--log-level)." },
	{ "cleanup_old_keys", SECTION_TOP, OPTION_BOOL, IN_CONFIG(cleanup_old_keys),
	  .fallback = "yes", .env = { { .variable = "LITELLM_CLEANUP_OLD_KEYS" } },
	  .help = "Delete a key of an older provisioner 24 hours after its name was taken over." },

	{ "url", SECTION_UPSTREAM, OPTION_UPSTREAM_URL, IN_CONFIG(upstream_url),
	  .env = { { .variable = "LITELLM_BASE_URL" } },
	  .example = "\"https://litellm.example.org\"",
	  .help = "The LiteLLM proxy; a trailing / or /v1 is taken off." },
	{ "master_key_file", SECTION_UPSTREAM, OPTION_PATH, IN_CONFIG(master_key_file),
	  .env = { { .variable = "LITELLM_MASTER_KEY_FILE" } },
	  .example = "\"/etc/keybroker/master.key\"",
	  .help = "File with the master key, mode 0600. A systemd credential `master_key` goes "
		  "before it, the variable LITELLM_MASTER_KEY after it. Not used for another url "
		  "from LITELLM_BASE_URL." },
	{ "ca_file", SECTION_UPSTREAM, OPTION_PATH, IN_CONFIG(ca_file),
	  .example = "\"/etc/ssl/certs/internal-ca.pem\"",
	  .help = "Certificates that https is checked against, in place of the system's." },
	{ "insecure_http", SECTION_UPSTREAM, OPTION_BOOL, IN_CONFIG(insecure_http),
	  .fallback = "no", .env = { { .variable = "KEYBROKER_INSECURE_HTTP" } },
	  .help = "Allow plain http beyond loopback: keys then cross that network in clear." },
	{ "base_url", SECTION_UPSTREAM, OPTION_URL, IN_CONFIG(openai_base_url),
	  .env = { { .variable = "OPENAI_BASE_URL" } },
	  .example = "\"https://litellm.example.org/v1\"",
	  .help = "Base URL handed out with a key, unless its profile or rule says otherwise. "
		  "Default: url with /v1." },
	{ "timeout", SECTION_UPSTREAM, OPTION_SPAN, IN_CONFIG(timing.upstream_timeout_ms),
	  .fallback = "10s", .help = "For one call of LiteLLM's admin API." },
	{ "validation_timeout_ms", SECTION_UPSTREAM, OPTION_COUNT,
	  IN_CONFIG(timing.info_timeout_ms), .min = 1, .max = 600000, .fallback = "2000",
	  .env = { { .variable = "LITELLM_KEY_VALIDATION_TIMEOUT_MS" } },
	  .help = "For one /key/info, in milliseconds." },
	{ "retry_max", SECTION_UPSTREAM, OPTION_COUNT, IN_CONFIG(timing.retry_attempts), .min = 1,
	  .max = 100, .fallback = "3", .env = { { .variable = "LITELLM_KEY_API_RETRY_MAX" } },
	  .help = "Attempts in all for one call." },
	{ "retry_base_ms", SECTION_UPSTREAM, OPTION_COUNT, IN_CONFIG(timing.retry_base_ms),
	  .min = 1, .max = 600000, .fallback = "300",
	  .env = { { .variable = "LITELLM_KEY_API_RETRY_BASE_MS" } },
	  .help = "The first pause between two attempts, in milliseconds; doubles, with jitter." },

	{ "ttl", SECTION_LEASE, OPTION_SPAN, IN_CONFIG(timing.ttl_default_ms), .fallback = "15m",
	  .help = "A TTL lease that names none." },
	{ "ttl_max", SECTION_LEASE, OPTION_SPAN, IN_CONFIG(timing.ttl_max_ms), .fallback = "24h",
	  .help = "The longest TTL lease." },
	{ "min_valid", SECTION_LEASE, OPTION_SPAN, IN_CONFIG(timing.min_valid_ms), .fallback = "5m",
	  .help = "Life that a key still has when it is handed out, at most a third of the whole." },
	{ "grace", SECTION_LEASE, OPTION_SPAN, IN_CONFIG(timing.grace_ms), .fallback = "5m",
	  .help = "How long a replaced key stays for those who can take a new one." },
	{ "fixed_max", SECTION_LEASE, OPTION_SPAN, IN_CONFIG(timing.fixed_max_ms),
	  .fallback = "24h",
	  .help = "How long a replaced key stays at most for those who cannot (keybroker exec)." },

	{ "connections", SECTION_LIMITS, OPTION_COUNT, IN_CONFIG(max_connections), .min = 1,
	  .max = 1000000, .fallback = "2048", .help = "Connections of one uid." },
	{ "leases", SECTION_LIMITS, OPTION_COUNT, IN_CONFIG(max_leases), .min = 1, .max = 10000000,
	  .fallback = "4096", .help = "Leases of one uid." },
	{ "buffered_bytes", SECTION_LIMITS, OPTION_COUNT, IN_CONFIG(max_buffered_bytes),
	  .min = 65536, .max = 1 << 30, .fallback = "262144",
	  .help = "Bytes that one uid may make the broker buffer." },
	{ "requests", SECTION_LIMITS, OPTION_COUNT, IN_CONFIG(max_requests), .min = 1,
	  .max = 1000000, .fallback = "2048",
	  .help = "Requests of one uid that wait for an answer, as while LiteLLM is slow." },
	{ "requests_per_second", SECTION_LIMITS, OPTION_COUNT, IN_CONFIG(requests_per_second),
	  .min = 1, .max = 10000000, .fallback = "1000",
	  .help = "Requests of one uid in a second. More are not refused: they wait their turn." },
	{ "mints_per_minute", SECTION_LIMITS, OPTION_COUNT, IN_CONFIG(mints_per_minute), .min = 1,
	  .max = 1000000, .fallback = "60", .help = "Keys minted for one uid in a minute." },

	{ "mode", SECTION_PROFILE, OPTION_ENUM, IN_PROFILE(mode), .names = option_modes,
	  .example = "shared",
	  .help = "shared (one key for all), dedicated (one key a lease) or static (a provider's "
		  "key as it is)." },
	{ "models", SECTION_PROFILE, OPTION_LIST, IN_PROFILE(models), IN_PROFILE(n_models),
	  .env = { { .variable = "LITELLM_SERVICE_MODELS", .fallback = "all-team-models" },
		   { .variable = "LITELLM_MODELS", .fallback = "gpt-5" } },
	  .example = "{ \"gpt-5\" }", .help = "Models that the key may use." },
	{ "alias", SECTION_PROFILE, OPTION_ALIAS, IN_PROFILE(alias),
	  .env = { { .variable = "LITELLM_SERVICE_KEY_ALIAS", .fallback = "agents-service" },
		   { .variable = "LITELLM_KEY_ALIAS", .fallback = "agents-%{pid}" } },
	  .example = "\"%{profile}-%{pid}\"",
	  .help = "The key's name in LiteLLM; %{host} %{profile} and, if dedicated, %{pid} %{uid} "
		  "%{user} %{unit} are filled in. Default: %{profile} or %{profile}-%{pid}." },
	{ "team_alias", SECTION_PROFILE, OPTION_TEXT, IN_PROFILE(team_alias),
	  .env = { { .variable = "LITELLM_SERVICE_TEAM_ALIAS", .fallback = "agents-service" } },
	  .example = "\"my-team\"",
	  .help = "LiteLLM team of the key, by its name; made if there is none." },
	{ "team_id", SECTION_PROFILE, OPTION_TEXT, IN_PROFILE(team_id),
	  .env = { { NULL, NULL }, { .variable = "LITELLM_TEAM_ID" } }, .example = "\"TEAM-ID\"",
	  .help = "Your own team, by its id: never made or changed. Wins over team_alias." },
	{ "duration", SECTION_PROFILE, OPTION_DURATION, IN_PROFILE(duration),
	  IN_PROFILE(duration_ms),
	  .env = { { .variable = "LITELLM_SERVICE_KEY_DURATION" },
		   { .variable = "LITELLM_KEY_DURATION", .fallback = "30d" } },
	  .example = "\"30d\"",
	  .help = "Life of a key, at least 5m; it is prolonged while it is in use. Default: none "
		  "for shared (never expires), 30d for dedicated." },
	{ "rotate_every", SECTION_PROFILE, OPTION_SPAN, IN_PROFILE(rotate_every_ms),
	  .example = "\"7d\"",
	  .help = "Replace a shared key this often, a twentieth sooner or later. Default: "
		  "never." },
	{ "base_url", SECTION_PROFILE, OPTION_URL, IN_PROFILE(base_url),
	  .example = "\"https://litellm.example.org/v1\"",
	  .help = "Base URL handed out with this profile's key." },
	{ "key_file", SECTION_PROFILE, OPTION_PATH, IN_PROFILE(key_file),
	  .example = "\"/etc/keybroker/provider.key\"",
	  .help = "static: file with the provider's key, mode 0600." },
	{ "pool", SECTION_PROFILE, OPTION_COUNT, IN_PROFILE(pool), .max = 1000, .example = "4",
	  .help = "dedicated: this many keys are kept ready, so that who comes need not wait for "
		  "LiteLLM." },

	{ "max_budget", SECTION_KEY, OPTION_NUMBER, IN_PROFILE(key.max_budget),
	  .env = { { NULL, NULL }, { .variable = "LITELLM_MAX_BUDGET" } }, .example = "5.0",
	  .help = "Dollars that each key may spend." },
	{ "rpm_limit", SECTION_KEY, OPTION_COUNT, IN_PROFILE(key.rpm_limit),
	  .env = { { NULL, NULL }, { .variable = "LITELLM_RPM_LIMIT" } }, .example = "60",
	  .help = "Requests a minute with each key." },
	{ "tpm_limit", SECTION_KEY, OPTION_COUNT, IN_PROFILE(key.tpm_limit),
	  .env = { { NULL, NULL }, { .variable = "LITELLM_TPM_LIMIT" } }, .example = "100000",
	  .help = "Tokens a minute with each key." },
	{ "budget_duration", SECTION_KEY, OPTION_DURATION, IN_PROFILE(key.budget_duration),
	  .example = "\"30d\"", .help = "The budget starts anew this often." },

	{ "max_budget", SECTION_TEAM, OPTION_NUMBER, IN_PROFILE(team.max_budget),
	  .example = "100.0", .help = "Dollars that all keys of the team may spend together." },
	{ "rpm_limit", SECTION_TEAM, OPTION_COUNT, IN_PROFILE(team.rpm_limit), .example = "600",
	  .help = "Requests a minute of the team." },
	{ "tpm_limit", SECTION_TEAM, OPTION_COUNT, IN_PROFILE(team.tpm_limit), .example = "1000000",
	  .help = "Tokens a minute of the team." },
	{ "budget_duration", SECTION_TEAM, OPTION_DURATION, IN_PROFILE(team.budget_duration),
	  .example = "\"30d\"", .help = "The budget starts anew this often." },

	{ "user", SECTION_RULE, OPTION_ID, IN_RULE(uid), IN_RULE(has_uid), .example = "\"alice\"",
	  .help = "Processes of this user." },
	{ "uid", SECTION_RULE, OPTION_ID, IN_RULE(uid), IN_RULE(has_uid), .example = "1000",
	  .help = "The same by number." },
	{ "group", SECTION_RULE, OPTION_ID, IN_RULE(gid), IN_RULE(has_gid),
	  .example = "\"keybroker-clients\"", .help = "Processes in this group." },
	{ "unit", SECTION_RULE, OPTION_TEXT, IN_RULE(unit), .example = "\"web-*.service\"",
	  .help = "Processes of this systemd unit; * ? and [ ] match as in file names." },
	{ "user_unit", SECTION_RULE, OPTION_TEXT, IN_RULE(user_unit),
	  .example = "\"agent.service\"",
	  .help = "Processes of this unit of their user's systemd. Every user names units as he "
		  "likes, so it goes with user, uid or group." },
	{ "exe", SECTION_RULE, OPTION_PATH, IN_RULE(exe), .example = "\"/usr/local/bin/agent\"",
	  .help = "Processes that run this program. For other users' the broker needs "
		  "CAP_SYS_PTRACE; processes of one uid can imitate each other." },
	{ "foreign_pid", SECTION_RULE, OPTION_BOOL, IN_RULE(foreign_pid), .fallback = "no",
	  .help = "Also processes of a pid namespace that the broker cannot see into (Linux 6.5)." },
	{ "profiles", SECTION_RULE, OPTION_LIST, IN_RULE(profiles), IN_RULE(n_profiles),
	  .example = "{ \"*\" }",
	  .help = "What they may have; \"*\" is every profile, \"batch-*\" those that begin so." },
	{ "base_url", SECTION_RULE, OPTION_URL, IN_RULE(base_url),
	  .example = "\"http://127.0.0.1:4000/v1\"",
	  .help = "Base URL handed out to them, before the profile's." },
	{ "connections", SECTION_RULE, OPTION_COUNT, IN_RULE(max_connections), .example = "100",
	  .help = "Connections of one uid, of the first rule that matches it and names them. This "
		  "and the two below go before section limits." },
	{ "max_leases", SECTION_RULE, OPTION_COUNT, IN_RULE(max_leases), .example = "100",
	  .help = "A uid with so many leases gets no other by this rule." },
	{ "mints_per_minute", SECTION_RULE, OPTION_COUNT, IN_RULE(mints_per_minute),
	  .example = "10", .help = "Keys minted for one uid by this rule in a minute." },
	{ "ttl_cap", SECTION_RULE, OPTION_SPAN, IN_RULE(ttl_cap_ms), .min = -1, .example = "\"1h\"",
	  .help = "The longest TTL lease by this rule." },

	{ "path", SECTION_LISTEN, OPTION_PATH, IN_RULE(path),
	  .example = "\"/run/keybroker-web/keybroker/keybroker.sock\"",
	  .help = "The socket. Its directory, for a bind mount, is made if there is none; those "
		  "above it are then 0700, so that on this host nobody else gets there." },
	{ "group", SECTION_LISTEN, OPTION_ID, IN_RULE(gid), IN_RULE(has_gid), .example = "\"web\"",
	  .help = "The socket's group: its mode is then 0660, else 0666." },
	{ "profiles", SECTION_LISTEN, OPTION_LIST, IN_RULE(profiles), IN_RULE(n_profiles),
	  .example = "{ \"service\" }",
	  .help = "What all who can connect there may have; the rules are for the other sockets." },
	{ "foreign_pid", SECTION_LISTEN, OPTION_BOOL, IN_RULE(foreign_pid), .fallback = "no",
	  .help = "As in a rule." },
	{ "base_url", SECTION_LISTEN, OPTION_URL, IN_RULE(base_url),
	  .example = "\"http://litellm:4000/v1\"", .help = "As in a rule." },
	{ "max_leases", SECTION_LISTEN, OPTION_COUNT, IN_RULE(max_leases), .example = "100",
	  .help = "As in a rule." },
	{ "mints_per_minute", SECTION_LISTEN, OPTION_COUNT, IN_RULE(mints_per_minute),
	  .example = "10", .help = "As in a rule." },
	{ "connections", SECTION_LISTEN, OPTION_COUNT, IN_RULE(max_connections), .example = "100",
	  .help = "As in a rule." },
	{ "ttl_cap", SECTION_LISTEN, OPTION_SPAN, IN_RULE(ttl_cap_ms), .min = -1,
	  .example = "\"1h\"", .help = "As in a rule." },
};

static const struct {
	const char *name, *help;
} option_sections[SECTION_N] = {
	[SECTION_TOP] = { "", "The broker itself." },
	[SECTION_UPSTREAM] = { "upstream", "The LiteLLM proxy that keys are made by." },
	[SECTION_LEASE] = { "lease", "How long things last." },
	[SECTION_LIMITS] = { "limits", "What one uid may make the broker hold or do." },
	[SECTION_PROFILE] = { "profile", "What may be handed out." },
	[SECTION_KEY] = { "key", "Limits of each key of this profile." },
	[SECTION_TEAM] = { "team", "Limits of the team by team_alias, if this broker made it; they "
				   "outlive the keys." },
	[SECTION_RULE] = { "rule",
			   "Who may have what: a rule matches if all that it names match; the "
			   "first that matches decides; no rule, no key." },
	[SECTION_LISTEN] = { "listen",
			     "A socket more, for a container: who gets it mounted may have its "
			     "profiles." },
};

size_t option_count(void)
{
	return ARRAY_SIZE(option_rows);
}

const struct option *option_at(size_t index)
{
	return &option_rows[index];
}

const struct option *option_find(enum option_section section, const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(option_rows); i++)
		if (option_rows[i].section == section && strcmp(option_rows[i].name, name) == 0)
			return &option_rows[i];
	assert(0 && "no such option");
	return NULL;
}

const char *option_section_name(enum option_section section)
{
	return option_sections[section].name;
}

const char *option_section_help(enum option_section section)
{
	return option_sections[section].help;
}
