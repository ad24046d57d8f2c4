/*
 * What the files behind core/litellm.h share: error texts (litellm_text.c) and the reading of good
 * answers (litellm_read.c). Only these and their tests include this.
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

/* Removes whatever looks like a key or a key's hash from a text ("sk-…" becomes "sk-***", 64 hex
 * digits likewise). */
void litellm_redact(char *text);
/*
 * Stars out `secret` wherever the text has it, however litellm_spelled() knows to write it; more
 * than half of it from its start; and less, where the text ends or "..." follows.
 */
void litellm_hide(char *text, const char *secret);

/* The character that `p` begins with, and how many bytes spell it, which may be `\\"`, `\u0026`,
 * `&#38;` or `%26`. 0: the text ends here. (litellm_spelling.c) */
uint32_t litellm_spelled(const char *p, size_t *ret_n);
/* How many bytes at `text` spell `word` or its beginning; `ret_told`: how many characters of it. */
size_t litellm_spells(const char *text, const char *word, size_t *ret_told);

/* Copies `words` for people: redacted, on one line, valid UTF-8, cut to `size`. */
void litellm_say(const char *words, char *ret, size_t size);

/* Reads the body of a 2xx answer into `ret`. False if it lacks what the operation demands. */
bool litellm_read(enum litellm_op op, const struct json *doc, const char *asked,
		  struct litellm_answer *ret);
