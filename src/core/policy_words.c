/* Sentences about rules. What does not fit is cut at the end, where the least important stands. */
#include "core/policy_words.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/macros.h"

/* Appends to what is there; how long it is now. */
static size_t policy_words_add(char *ret, size_t size, size_t at, const char *fmt, ...)
	_printf_(4, 5);
static size_t policy_words_add(char *ret, size_t size, size_t at, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (at >= size)
		return at;
	va_start(ap, fmt);
	n = vsnprintf(ret + at, size - at, fmt, ap);
	va_end(ap);
	return at + (size_t)MAX_OF(n, 0);
}

void policy_words_peer(const struct peer *peer, char *ret, size_t size)
{
	const struct {
		const char *name, *text;
	} texts[] = { { "unit", peer->unit },
		      { "user unit", peer->user_unit },
		      { "exe", peer->exe },
		      { "socket", peer->listen } };
	size_t at = policy_words_add(ret, size, 0, "uid %u, gid %u, ", peer->uid, peer->gid);

	at = peer->pid ? policy_words_add(ret, size, at, "pid %d", (int)peer->pid)
		       : policy_words_add(ret, size, at, "a foreign pid namespace");
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (texts[i].text[0])
			at = policy_words_add(ret, size, at, ", %s %s", texts[i].name,
					      texts[i].text);
	if (peer->exe_elsewhere)
		(void)policy_words_add(ret, size, at, " (another file here, or none)");
}

/* What a caller learns; NULL for what is no secret anyway. */
static const char *const policy_words_short[] = {
	[POLICY_USER] = "it is for another user",
	[POLICY_GROUP] = "it is for a group that you are not in",
	[POLICY_UNIT] = "it is for another systemd unit",
	[POLICY_USER_UNIT] = "it is for another unit of the user's systemd",
	[POLICY_EXE] = "it is for another executable, or the broker cannot see yours",
	[POLICY_PROFILE] = "it does not name this profile",
};

/* "unit is a.service, not b.service"; "unit is unknown, …". */
static void policy_words_other(const char *what, const char *is, const char *wanted, char *ret)
{
	(void)snprintf(ret, POLICY_WHY_SIZE, "%s is %s, not %s", what, *is ? is : "unknown",
		       wanted);
}

void policy_words_miss(const struct rule *rule, const struct peer *peer, enum policy_miss miss,
		       bool full, char ret[POLICY_WHY_SIZE])
{
	char id[16];

	if (!full && (size_t)miss < ARRAY_SIZE(policy_words_short) && policy_words_short[miss]) {
		(void)snprintf(ret, POLICY_WHY_SIZE, "%s", policy_words_short[miss]);
		return;
	}
	(void)snprintf(id, sizeof(id), "%u", peer->uid);
	switch (miss) {
	case POLICY_FITS:
	case POLICY_PROFILE:
		(void)snprintf(ret, POLICY_WHY_SIZE, "it does not name this profile");
		return;
	case POLICY_NOBODY:
		(void)snprintf(ret, POLICY_WHY_SIZE,
			       "uid %s is whoever the kernel cannot name: no rule matches it", id);
		return;
	case POLICY_FOREIGN:
		(void)snprintf(ret, POLICY_WHY_SIZE,
			       "the process is in a foreign pid namespace, and the rule does not "
			       "say foreign_pid = yes");
		return;
	case POLICY_UNTOLD:
		(void)snprintf(ret, POLICY_WHY_SIZE,
			       "the process is in a foreign pid namespace, and this kernel does "
			       "not tell which it is (Linux 6.5 does)");
		return;
	case POLICY_WAITS:
		(void)snprintf(ret, POLICY_WHY_SIZE,
			       "it has another path or group now, and grants nothing until the "
			       "broker is restarted");
		return;
	case POLICY_USER:
		(void)snprintf(ret, POLICY_WHY_SIZE, "uid is %s, not %u", id, rule->uid);
		return;
	case POLICY_GROUP:
		(void)snprintf(ret, POLICY_WHY_SIZE, "it is not in group %u", rule->gid);
		return;
	case POLICY_UNIT:
		policy_words_other("unit", peer->unit, rule->unit, ret);
		return;
	case POLICY_USER_UNIT:
		policy_words_other("user_unit", peer->user_unit, rule->user_unit, ret);
		return;
	case POLICY_EXE:
		if (peer->exe_elsewhere && strcmp(peer->exe, rule->exe) == 0)
			(void)snprintf(ret, POLICY_WHY_SIZE,
				       "exe is %s, but where the broker looks that is another "
				       "file, or none",
				       rule->exe);
		else
			policy_words_other("exe", peer->exe, rule->exe, ret);
		return;
	}
}

void policy_words_denied(const struct config *c, const struct peer *peer, const char *profile,
			 char *ret, size_t size)
{
	size_t n, at = policy_words_add(ret, size, 0, "no rule allows it%s%s",
					peer->listen[0] ? " on the socket of listen " : "",
					peer->listen);
	const struct rule *rules = policy_rules(c, peer, &n);
	const char *separator = ": ";
	char why[POLICY_WHY_SIZE];

	for (size_t i = 0; i < n && at < size; i++) {
		if (!policy_rule_names(&rules[i], profile))
			continue;
		policy_words_miss(&rules[i], peer, policy_rule_miss(&rules[i], peer, profile), true,
				  why);
		at = policy_words_add(ret, size, at, "%s%s: %s", separator, rules[i].name, why);
		separator = "; ";
	}
	if (strcmp(separator, ": ") == 0)
		(void)policy_words_add(ret, size, at, ", and none names the profile");
}
