/* The server that a URL names. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define URL_HOST_SIZE 256

struct url_server {
	char host[URL_HOST_SIZE]; /* lower case, without brackets and a trailing dot */
	unsigned port;		  /* the scheme's if the URL names none */
	bool https;
};

/* False if it isn't http://host… or https://host… */
bool url_server(const char *url, struct url_server *ret);
/* Whether both name the same server; false if one of them cannot be read. */
bool url_same_server(const char *a, const char *b);
