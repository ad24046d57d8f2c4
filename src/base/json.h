/*
 * JSON over jansson, with an allocator that wipes (an answer of LiteLLM may hold a key). Objects
 * are borrowed from the document unless said otherwise.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

struct json; /* one node; a document is its root node */

/* Must be called once before any other function here: sets the wiping allocator. */
void json_init(void);

/* Parses exactly one value; duplicate names and a depth over 32 are refused. NULL if it isn't JSON.
 */
struct json *json_parse(const char *text, size_t n) _must_check_;
/* Not json_object() and json_array(): jansson calls functions of those names, and would get ours.
 */
struct json *json_new_object(void) _must_check_;
struct json *json_new_array(void) _must_check_;
/* Frees a document that json_parse() or json_new_*() made and that no other took. */
void json_free(struct json *doc);
DEFINE_CLEANUP(struct json, json)

/* Reading. NULL, false or the given default where it is absent, null or of another type. `node` may
 * be NULL. */
const struct json *json_get(const struct json *node, const char *name);
bool json_is_object(const struct json *node);
bool json_is_array(const struct json *node);
bool json_is_null(const struct json *node); /* absent counts as null */
const char *json_text(const struct json *node);
const char *json_get_text(const struct json *node, const char *name);
bool json_get_bool(const struct json *node, const char *name, bool otherwise);
bool json_get_int(const struct json *node, const char *name, int64_t *ret);
bool json_get_number(const struct json *node, const char *name, double *ret); /* integers too */
size_t json_len(const struct json *node);
const struct json *json_at(const struct json *node, size_t index);

/* Building. The value is taken over in each case, on error too; -ENOMEM. In a text that isn't
 * UTF-8, each byte over 127 becomes '?'. */
int json_set(struct json *object, const char *name, struct json *value) _must_check_;
int json_set_text(struct json *object, const char *name, const char *value) _must_check_;
/* The same, but -EILSEQ for a text that isn't UTF-8; the object is as before then. */
int json_set_exact(struct json *object, const char *name, const char *value) _must_check_;
int json_set_int(struct json *object, const char *name, int64_t value) _must_check_;
int json_set_number(struct json *object, const char *name, double value) _must_check_;
int json_set_bool(struct json *object, const char *name, bool value) _must_check_;
int json_add(struct json *array, struct json *value) _must_check_;
int json_add_text(struct json *array, const char *value) _must_check_;
/* The compact text; to be given to json_text_free(), which wipes it. NULL without memory. */
char *json_dump(const struct json *node) _must_check_;
void json_text_free(char *text);
