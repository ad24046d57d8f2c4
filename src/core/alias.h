/* Alias templates: %{pid} %{uid} %{user} %{unit} %{host} %{profile}. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

struct alias_values {
	int64_t pid, uid;
	const char *user, *unit, *host, *profile; /* NULL counts as "" */
};

/* The first unknown or unclosed %{…} of a template, or NULL if it is well-formed; points into
 * `template`. */
const char *alias_template_error(const char *template);
/* True if it names %{pid}, %{uid}, %{user} or %{unit}: not for a shared profile. */
bool alias_template_varies(const char *template);
/* Expands into `ret`; what does not fit into `size` is cut; line breaks and control characters
 * become '_', and what is not UTF-8 '?'. */
void alias_expand(const char *template, const struct alias_values *v, char *ret, size_t size);
/* `alias` + "." or "-" + `suffix`, cutting the alias so that the whole fits into `size`. */
void alias_append(const char *alias, char separator, const char *suffix, char *ret, size_t size);
