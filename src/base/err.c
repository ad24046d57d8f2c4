/* Logs an unexpected errno at the place where it arises, so that callers need only pass it on. */
#include "base/err.h"

#include <string.h>

#include "base/log.h"

int err_origin_at(int r, const char *file, int line, const char *function)
{
	const char *base = strrchr(file, '/');

	log_error("%s (%s, %s:%d)", strerrordesc_np(-r) ? strerrordesc_np(-r) : "unknown error",
		  function, base ? base + 1 : file, line);
	return r;
}
