/* Looks names up where the system has them (NSS); at load only, since that may take its time. */
#include "io/config_ids.h"

#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"

#define CONFIG_GROUPS_MAX                                                       \
	1024 /* with more the kernel has the last word, when the socket is made \
	      */

char *config_id(const char *option, const char *text)
{
	const struct passwd *pw = strcmp(option, "user") == 0 ? getpwnam(text) : NULL;
	const struct group *gr = strcmp(option, "group") == 0 ? getgrnam(text) : NULL;

	if (pw)
		return xasprintf("%u", pw->pw_uid);
	if (gr)
		return xasprintf("%u", gr->gr_gid);
	/* `uid` is judged by its own parser */
	if (strcmp(option, "uid") == 0 || (*text && text[strspn(text, "0123456789")] == '\0'))
		return xstrdup(text);
	return NULL;
}

bool config_may_give(const char *gid)
{
	gid_t groups[CONFIG_GROUPS_MAX], wanted = (gid_t)strtoul(gid, NULL, 10);
	int n = getgroups(CONFIG_GROUPS_MAX, groups);
	bool member = geteuid() == 0 || getegid() == wanted || n < 0;

	for (int i = 0; i < n && !member; i++)
		member = groups[i] == wanted;
	return member;
}

char *config_group_name(gid_t gid)
{
	const struct group *gr = getgrgid(gid);

	return gr ? xstrdup(gr->gr_name) : xasprintf("%u", gid);
}
