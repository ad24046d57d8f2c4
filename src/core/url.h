/* http and https URLs, as far as the broker takes them: no user, password, query or fragment. */
#pragma once

#include <stdbool.h>

#include "base/macros.h"

#define URL_HOST_MAX 254 /* bytes with the NUL */

struct url {
	bool https;
	bool loopback;		 /* host_is_loopback() */
	char host[URL_HOST_MAX]; /* in lower case, an IPv6 address without its brackets */
	int port;
};

/* NULL, or why `text` is not taken (a static text that ends "… is not a URL because it" well). */
const char *url_parse(const char *text, struct url *ret) _must_check_;
/* Do both, taken by url_parse(), lead to the same place? */
bool url_is_same(const char *a, const char *b) _must_check_;
/* `text` without trailing slashes and, if `v1`, without a trailing /v1. free() it. */
char *url_trim(const char *text, bool v1) _must_check_;
