/* Allocation that ends the process when memory is gone. Says so without allocating. */
#include "base/alloc.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void *alloc_or_abort(void *p)
{
	static const char message[] = "out of memory\n";

	if (p)
		return p;
	(void)!write(STDERR_FILENO, message,
		     sizeof(message) - 1); /* the last words; nobody left to tell */
	abort();
}

void *xcalloc(size_t n, size_t size)
{
	return alloc_or_abort(calloc(n ? n : 1, size ? size : 1));
}

void *xrealloc(void *p, size_t n, size_t size)
{
	return alloc_or_abort(reallocarray(p, n ? n : 1, size ? size : 1));
}

char *xstrdup(const char *s)
{
	return s ? alloc_or_abort(strdup(s)) : NULL;
}

char *xasprintf(const char *fmt, ...)
{
	char *s = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	return alloc_or_abort(n < 0 ? NULL : s);
}
