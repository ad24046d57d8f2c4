/*
 * JSON over jansson: the one file that includes it. A node is a json_t under our own name. All
 * memory that jansson frees is wiped first, since keys pass through it; nothing is printed here.
 */
#include "base/json.h"

#include <errno.h>
#include <jansson.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#define JSON_DEPTH_MAX 32   /* jansson itself would go to 2048, recursing */
#define JSON_REAL_DIGITS 15 /* 0.1 stays 0.1: 17 digits would print 0.10000000000000001 */

static const json_t *json_node(const struct json *node)
{
	return (const json_t *)(const void *)node;
}

/* jansson's iterators take a non-const object, though they only read it. */
static json_t *json_mutable(const struct json *node)
{
	return (json_t *)(uintptr_t)node;
}

static struct json *json_wrap(json_t *node)
{
	return (struct json *)(void *)node;
}

static void json_wipe_free(void *p)
{
	if (p)
		explicit_bzero(p, malloc_usable_size(p));
	free(p);
}

void json_init(void)
{
	json_set_alloc_funcs(malloc, json_wipe_free);
}

/* The end of the string literal that starts at `text[i]` (its closing quote), or `n`. */
static size_t json_skip_string(const char *text, size_t n, size_t i)
{
	for (i++; i < n && text[i] != '"'; i++)
		if (text[i] == '\\')
			i++;
	return i < n ? i : n;
}

/* Looks at brackets alone: what is not JSON at all is jansson's to refuse. */
static bool json_is_too_deep(const char *text, size_t n)
{
	size_t depth = 0;

	for (size_t i = 0; i < n; i++) {
		if (text[i] == '"')
			i = json_skip_string(text, n, i);
		else if (text[i] == '[' || text[i] == '{')
			depth++;
		else if ((text[i] == ']' || text[i] == '}') && depth > 0)
			depth--;
		if (depth > JSON_DEPTH_MAX)
			return true;
	}
	return false;
}

struct json *json_parse(const char *text, size_t n)
{
	json_error_t error;

	if (!text || json_is_too_deep(text, n))
		return NULL;
	return json_wrap(json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error));
}

struct json *json_new_object(void)
{
	return json_wrap(json_object());
}

struct json *json_new_array(void)
{
	return json_wrap(json_array());
}

void json_free(struct json *doc)
{
	json_decref(json_mutable(doc));
}

const struct json *json_get(const struct json *node, const char *name)
{
	return json_wrap(json_object_get(json_node(node), name)); /* NULL for a non-object */
}

/* jansson has macros of these three names: the parentheses keep them out. */
bool(json_is_object)(const struct json *node)
{
	return json_is_object(json_node(node));
}

bool(json_is_array)(const struct json *node)
{
	return json_is_array(json_node(node));
}

bool(json_is_null)(const struct json *node)
{
	return !node || json_is_null(json_node(node));
}

const char *json_text(const struct json *node)
{
	return json_string_value(json_node(node));
}

const char *json_get_text(const struct json *node, const char *name)
{
	return json_text(json_get(node, name));
}

bool json_get_bool(const struct json *node, const char *name, bool otherwise)
{
	const json_t *value = json_node(json_get(node, name));

	return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

bool json_get_int(const struct json *node, const char *name, int64_t *ret)
{
	const json_t *value = json_node(json_get(node, name));

	if (!json_is_integer(value))
		return false;
	*ret = json_integer_value(value);
	return true;
}

bool json_get_number(const struct json *node, const char *name, double *ret)
{
	const json_t *value = json_node(json_get(node, name));

	if (!json_is_number(value))
		return false;
	*ret = json_number_value(value);
	return true;
}

size_t json_len(const struct json *node)
{
	return json_is_object(json_node(node)) ? json_object_size(json_node(node))
					       : json_array_size(json_node(node));
}

const struct json *json_at(const struct json *node, size_t index)
{
	return json_wrap(json_array_get(json_node(node), index));
}

int json_set(struct json *object, const char *name, struct json *value)
{
	return json_object_set_new(json_mutable(object), name, json_mutable(value)) < 0 ? -ENOMEM
											: 0;
}

/* A text that isn't UTF-8 (a file name, a user's name) must not cost the whole document. */
static struct json *json_string_of(const char *value)
{
	json_t *node = json_string(value);
	char *copy;

	if (node)
		return json_wrap(node);
	copy = strdup(value);
	if (!copy)
		return NULL;
	for (char *p = copy; *p; p++)
		if ((unsigned char)*p > 127)
			*p = '?';
	node = json_string(copy);
	json_text_free(copy);
	return json_wrap(node);
}

int json_set_text(struct json *object, const char *name, const char *value)
{
	return json_set(object, name, json_string_of(value));
}

int json_set_exact(struct json *object, const char *name, const char *value)
{
	json_t *node = json_string(value);

	return node ? json_set(object, name, json_wrap(node)) : -EILSEQ;
}

int json_set_int(struct json *object, const char *name, int64_t value)
{
	return json_set(object, name, json_wrap(json_integer(value)));
}

int json_set_number(struct json *object, const char *name, double value)
{
	return json_set(object, name, json_wrap(json_real(value)));
}

int json_set_bool(struct json *object, const char *name, bool value)
{
	return json_set(object, name, json_wrap(json_boolean(value)));
}

int json_add(struct json *array, struct json *value)
{
	return json_array_append_new(json_mutable(array), json_mutable(value)) < 0 ? -ENOMEM : 0;
}

int json_add_text(struct json *array, const char *value)
{
	return json_add(array, json_string_of(value));
}

char *json_dump(const struct json *node)
{
	return json_dumps(json_node(node),
			  JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(JSON_REAL_DIGITS));
}

void json_text_free(char *text)
{
	json_wipe_free(text);
}
