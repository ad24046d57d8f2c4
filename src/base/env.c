/* Variables whose bytes go with them. */
#include "base/env.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crypt.h"

bool env_scrub(const char *name)
{
	size_t n = strlen(name);
	bool found = false;

	/* each of several with one name, too: getenv finds only the first */
	for (char **at = environ; at && *at; at++) {
		if (strncmp(*at, name, n) != 0 || (*at)[n] != '=')
			continue;
		crypt_wipe(*at + n + 1, strlen(*at + n + 1));
		found = true;
	}
	(void)unsetenv(name); /* fails only for a malformed name */
	return found;
}
