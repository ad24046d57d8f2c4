/*
 * What the files behind core/litellm.h share: error texts (litellm_text.c) and the reading of good
 * answers (litellm_read.c). Nobody else includes this.
 */
#pragma once

#include "core/litellm.h"

/* An error answer in LiteLLM's words. */
struct litellm_error {
	char type[64]; /* error.type; "" if the shape has none */
	char *words;   /* may still hold credentials; owned: json_text_free() wipes it */
};

/*
 * Reads any of the three shapes: {"error": {message, type}}, {"detail": …}, plain text ("Internal
 * Server Error", which alone of all plain texts is LiteLLM's). False if it is none: then a proxy or
 * some other server has answered, and `words` is what it said.
 */
bool litellm_read_error(const struct json *doc, const char *body, size_t n,
			struct litellm_error *ret);

/* Copies `words` for people: redacted, on one line, valid UTF-8, cut to `size`. */
void litellm_say(const char *words, char *ret, size_t size);

/* Reads the body of a 2xx answer into `ret`. False if it lacks what the operation demands. */
bool litellm_read(enum litellm_op op, const struct json *doc, const char *asked,
		  struct litellm_answer *ret);
