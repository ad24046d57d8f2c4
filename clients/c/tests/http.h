/* One HTTP/1.1 request over a socket of its own: what the tests' programs need of it. */
#pragma once

#include <stddef.h>

/* POSTs a chat completion to BASE_URL/chat/completions with this key; yields the status, -1 if
 * there was no answer. */
int http_post_chat(const char *base_url, const char *key, const char *model);
/* GETs a URL, with a key unless that is NULL; as above. */
int http_get(const char *url, const char *key);
